/** What an event changes in jobs that are already known. Pure; whoever calls it decides what to fetch anew. */

import type { InfiniteData } from "@tanstack/react-query";
import { imageUrl, thumbnailUrl } from "@/api/images";
import type { Job, JobPage } from "@/api/jobs";
import type { EventMessage } from "./state";

/** What the cache holds under the keys of jobs. */
export type KnownJobs = Job | Job[] | InfiniteData<JobPage> | undefined;

/** What is known after a change of one job; the same object where it does not hold that job. */
export function withJob(known: KnownJobs, id: string, change: (job: Job) => Job): KnownJobs {
  if (known === undefined) return known;
  if (Array.isArray(known)) return changedList(known, id, change);
  if (!("pages" in known)) return known.id === id ? change(known) : known;
  let isChanged = false;
  const pages = known.pages.map((page) => {
    const jobs = changedList(page.jobs, id, change);
    if (jobs === page.jobs) return page;
    isChanged = true;
    return { ...page, jobs };
  });
  return isChanged ? { ...known, pages } : known;
}

function changedList(jobs: Job[], id: string, change: (job: Job) => Job): Job[] {
  const at = jobs.findIndex((job) => job.id === id);
  const job = jobs[at];
  if (job === undefined) return jobs;
  const changed = change(job);
  return changed === job ? jobs : jobs.with(at, changed);
}

/** The job after the event; the same object where it says nothing about it. */
export function patched(job: Job, message: EventMessage): Job {
  if (message.job_id !== job.id) return job;
  switch (message.type) {
    case "stage_update":
      if (!("scope" in message)) return job;
      return {
        ...job,
        status: message.status,
        attempt: message.attempt ?? job.attempt,
        worker: message.worker ?? null,
        queue_position: message.status === "processing" ? null : job.queue_position,
        started_at: message.status === "processing" ? (job.started_at ?? message.at) : job.started_at,
        finished_at: null,
        error: null,
        pictures: message.retry ? job.pictures.map((picture) => ({ ...picture, error: null })) : job.pictures,
        progress: undefined,
      };
    case "image_generated":
      return {
        ...job,
        adapters: message.adapters ?? job.adapters,
        cached: job.cached || message.cached === true,
        pictures: job.pictures.map((picture) =>
          picture.index === message.index
            ? {
                ...picture,
                image_id: message.image_id,
                url: imageUrl(message.image_id),
                thumbnail_url: thumbnailUrl(message.image_id),
                error: null,
              }
            : picture,
        ),
      };
    case "warning":
      return job.warnings.includes(message.message)
        ? job
        : { ...job, warnings: [...job.warnings, message.message] };
    case "error": {
      const fault = { code: message.code, message: message.message, retryable: message.retryable };
      if (message.index === undefined) return { ...job, error: fault };
      return {
        ...job,
        pictures: job.pictures.map((picture) =>
          picture.index === message.index
            ? { ...picture, error: fault, image_id: null, url: undefined, thumbnail_url: undefined }
            : picture,
        ),
      };
    }
    case "done":
      return {
        ...job,
        status: message.status,
        finished_at: message.at,
        queue_position: null,
        progress: undefined,
        error: job.error ?? firstFault(job, message.status),
      };
    default:
      return job;
  }
}

function firstFault(job: Job, status: Job["status"]): Job["error"] {
  if (status !== "failed" && status !== "partial") return null;
  return job.pictures.find((picture) => picture.error)?.error ?? null;
}
