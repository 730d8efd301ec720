/** Which jobs the create page shows, in which order. */

import type { Job } from "@/api/jobs";

/** Jobs of both lists, each once, newest first; what is in `active` is taken from there. */
export function streamOf(active: readonly Job[], recent: readonly Job[]): Job[] {
  const byId = new Map(recent.map((job) => [job.id, job]));
  for (const job of active) {
    const other = byId.get(job.id);
    // The list that is older may still hold the job as it was before it ended.
    if (other === undefined || !other.finished_at) byId.set(job.id, job);
  }
  return [...byId.values()].sort((a, b) => b.created_at - a.created_at || (a.id < b.id ? 1 : -1));
}

export const isActive = (job: Job) => job.status === "pending" || job.status === "processing";
export const painted = (job: Job) => job.pictures.filter((picture) => picture.image_id !== null);
