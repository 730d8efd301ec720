/** Keys that work on every page: the queue, the list of shortcuts, and G followed by a page's letter. */

import { useHotkeys } from "@mantine/hooks";
import { useNavigate } from "@tanstack/react-router";
import { useRef } from "react";
import { useShortcutsDialog } from "@/help/dialog";
import { useQueueDrawer } from "@/queue/drawer";

const PATIENCE_MS = 1_200;
const isDialogOpen = () => document.querySelector('[aria-modal="true"]') !== null;

export function usePageKeys(): void {
  const navigate = useNavigate();
  const queue = useQueueDrawer();
  const { open } = useShortcutsDialog();
  const pressedAt = useRef(Number.NEGATIVE_INFINITY);

  const unlessDialog = (act: () => void) => () => {
    if (!isDialogOpen()) act();
  };
  // A second G within the patience goes to the gallery; the first one only begins.
  const second = (go: () => void, otherwise?: () => void) => {
    const isInTime = performance.now() - pressedAt.current < PATIENCE_MS;
    pressedAt.current = Number.NEGATIVE_INFINITY;
    if (isInTime) go();
    else otherwise?.();
  };
  const begin = () => {
    pressedAt.current = performance.now();
  };

  useHotkeys([
    ["q", () => (queue.isOpen || !isDialogOpen()) && queue.toggle()],
    ["shift+?", unlessDialog(open)],
    ["?", unlessDialog(open)], // keyboards that have it without shift
    ["g", unlessDialog(() => second(() => void navigate({ to: "/gallery" }), begin))],
    ["c", unlessDialog(() => second(() => void navigate({ to: "/" })))],
    [
      "l",
      unlessDialog(() => second(() => void navigate({ to: "/library/$shelf", params: { shelf: "models" } }))),
    ],
  ]);
}
