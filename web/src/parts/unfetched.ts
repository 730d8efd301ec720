/** Pages whose files could not be fetched: the line is down, or the server has a newer version with other files. */

import { useEffect } from "react";

const KEPT = "limner-reloaded";
const PAUSE_MS = 2_000;
const SELDOM_MS = 120_000;

/** Whether an error is a browser's or the bundler's way to say that a page's file did not come. */
export function isUnfetched(error: unknown): boolean {
  return (
    error instanceof Error &&
    /preload CSS|dynamically imported module|importing a module script/i.test(error.message)
  );
}

/** Loads the page anew as soon as the server answers; seldom enough that what stays missing makes no loop. */
export function useReloadWhenAnswered(isWanted: boolean): void {
  useEffect(() => {
    if (!isWanted) return;
    const timer = window.setInterval(async () => {
      const answer = await fetch("/", { cache: "no-store" }).catch(() => null);
      const before = Number(sessionStorage.getItem(KEPT) ?? 0);
      if (!answer?.ok || Date.now() - before < SELDOM_MS) return;
      sessionStorage.setItem(KEPT, String(Date.now()));
      window.location.reload();
    }, PAUSE_MS);
    return () => window.clearInterval(timer);
  }, [isWanted]);
}
