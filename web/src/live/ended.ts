/** Who wants to know that a job has ended, and which jobs were sent from this tab. */

import type { Schemas } from "@/api/client";

type End = Schemas["DoneMessage"];

const listeners = new Set<(end: End) => void>();
const mine = new Set<string>();

/** Remembers that this tab has sent the job. */
export function remember(id: string): void {
  mine.add(id);
}

export function tellEnd(end: End): void {
  if (!mine.delete(end.job_id)) return;
  for (const listener of listeners) listener(end);
}

/** Calls `listener` with the end of each job that this tab has sent, until the returned function is called. */
export function onEnd(listener: (end: End) => void): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}
