/** Records for tests. */

import type { Job } from "@/api/jobs";

/** A waiting job with as many pictures as asked for; `changes` says what is special about it. */
export function aJob(changes: Partial<Job> & { count?: number } = {}): Job {
  const { count = 1, ...rest } = changes;
  const id = rest.id ?? "job_1";
  return {
    id,
    owner: "local",
    status: "pending",
    request: { prompt: "a boat" } as Job["request"],
    pictures: Array.from({ length: count }, (_, index) => ({
      index,
      seed: String(7 + index),
      image_id: null,
      error: null,
    })),
    priority: 0,
    attempt: 0,
    max_attempts: 3,
    cancel_requested: false,
    adapters: [],
    warnings: [],
    error: null,
    cached: false,
    queue_position: null,
    worker: null,
    created_at: 100,
    started_at: null,
    finished_at: null,
    webhook: null,
    links: { self: `/api/jobs/${id}`, events: `/api/jobs/${id}/events` },
    ...rest,
  };
}
