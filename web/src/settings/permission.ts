/** Whether the browser lets the page notify. */

import { useCallback, useState } from "react";

export type Permission = NotificationPermission | "insecure" | "unsupported";

/** Browsers only let pages from this machine or over HTTPS notify. */
export function permission(): Permission {
  if (!window.isSecureContext) return "insecure";
  return "Notification" in window ? Notification.permission : "unsupported";
}

/** The permission now, and a way to ask for it; `ask` gives what it is afterwards. */
export function usePermission(): { now: Permission; ask: () => Promise<Permission> } {
  const [now, setNow] = useState(permission);
  const ask = useCallback(async () => {
    if (permission() === "default") await Notification.requestPermission();
    setNow(permission());
    return permission();
  }, []);
  return { now, ask };
}

/** Tells something outside of the page, where the browser lets it; `tag` keeps it from being told twice. */
export function notifyOutside(title: string, tag: string, onClick: () => void): void {
  if (permission() !== "granted") return;
  try {
    const notice = new Notification(title, { tag, icon: "/favicon.svg" });
    notice.onclick = () => {
      window.focus();
      notice.close();
      onClick();
    };
  } catch {
    // Browsers of phones let only service workers notify; the page itself tells it as well.
  }
}
