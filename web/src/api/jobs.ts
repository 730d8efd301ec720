/** Jobs: keys, queries, and one hook for each thing that can be done to them. */

import {
  infiniteQueryOptions,
  type QueryClient,
  queryOptions,
  useMutation,
  useQueryClient,
} from "@tanstack/react-query";
import { remember } from "@/live/ended";
import { type KnownJobs, withJob } from "@/live/patch";
import { answer, api, type Schemas } from "./client";

export type Job = Schemas["JobView"];
export type JobPage = Schemas["JobPage"];
export type JobBody = Schemas["JobBody"];
export type JobStatus = Job["status"];
export type GenerationRequest = Schemas["GenerationRequest"];
export type JobFilter = { status?: JobStatus[]; search?: string };

export const jobKeys = {
  all: ["jobs"] as const,
  active: ["jobs", "active"] as const,
  recent: ["jobs", "recent"] as const,
  list: (filter: JobFilter) => ["jobs", "list", filter] as const,
  one: (id: string) => ["jobs", "one", id] as const,
};

const ACTIVE_PAGES = 10;

/** Jobs that wait or run, all of them: their places in the line are counted from this list. */
export const activeJobs = queryOptions({
  queryKey: jobKeys.active,
  queryFn: async ({ signal }) => {
    const jobs: Job[] = [];
    let cursor: string | null = null;
    for (let page = 0; page < ACTIVE_PAGES; page++) {
      const answered: JobPage = await answer(
        api.GET("/api/jobs", {
          params: {
            query: { status: ["pending", "processing"], limit: 200, ...(cursor ? { cursor } : {}) },
          },
          signal,
        }),
      );
      jobs.push(...answered.jobs);
      cursor = answered.next_cursor;
      if (cursor === null) break;
    }
    return jobs;
  },
});

/** The newest jobs, whatever became of them. */
export const recentJobs = queryOptions({
  queryKey: jobKeys.recent,
  queryFn: async ({ signal }) =>
    (await answer(api.GET("/api/jobs", { params: { query: { limit: 30 } }, signal }))).jobs,
});

/** Jobs of the past and of now, page by page. */
export const jobPages = (filter: JobFilter) =>
  infiniteQueryOptions({
    queryKey: jobKeys.list(filter),
    queryFn: ({ pageParam, signal }) =>
      answer(
        api.GET("/api/jobs", {
          params: { query: { ...filter, limit: 30, ...(pageParam ? { cursor: pageParam } : {}) } },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.next_cursor ?? undefined,
  });

export const jobById = (id: string) =>
  queryOptions({
    queryKey: jobKeys.one(id),
    queryFn: ({ signal }) =>
      answer(api.GET("/api/jobs/{job_id}", { params: { path: { job_id: id } }, signal })),
  });

/** 128 random bits; `randomUUID` is missing where the page comes without TLS from another machine. */
function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Headers of a call that makes a job: the key makes that a repeated attempt of the call is the same job. */
export const once = () => ({ "idempotency-key": randomKey() });

/** Shows a job at once wherever jobs are listed; the lists that are fetched then say the same. */
export function announce(client: QueryClient, job: Job): void {
  remember(job.id);
  client.setQueryData(jobKeys.one(job.id), job);
  for (const key of [jobKeys.recent, jobKeys.active])
    client.setQueryData<Job[]>(key, (known) => known && [job, ...known.filter(({ id }) => id !== job.id)]);
  void client.invalidateQueries({ queryKey: jobKeys.all });
}

export function useSubmitJob() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: Partial<JobBody>) =>
      answer(api.POST("/api/jobs", { body: body as JobBody, params: { header: once() } })),
    onSuccess: (job) => announce(client, job),
  });
}

/** Puts what the server has said of a job wherever that job is shown. */
function keep(client: QueryClient, job: Job): void {
  client.setQueryData(jobKeys.one(job.id), job);
  client.setQueriesData<KnownJobs>({ queryKey: jobKeys.all }, (known) => withJob(known, job.id, () => job));
}

function useJobAction(act: (id: string) => Promise<Job>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: act,
    onSuccess: (job) => keep(client, job),
    onSettled: () => client.invalidateQueries({ queryKey: jobKeys.all }),
  });
}

const cancel = (id: string) =>
  answer(api.POST("/api/jobs/{job_id}/cancel", { params: { path: { job_id: id } } }));

export const useCancelJob = () => useJobAction(cancel);

/** Runs again what is not painted yet. */
export const useRetryJob = () =>
  useJobAction((id) => answer(api.POST("/api/jobs/{job_id}/retry", { params: { path: { job_id: id } } })));

/** Cancels many jobs, a few at a time. The first error is thrown when all the others are done. */
export function useCancelJobs() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (ids: string[]) => {
      let failure: unknown;
      for (let at = 0; at < ids.length; at += 6) {
        for (const result of await Promise.allSettled(ids.slice(at, at + 6).map(cancel)))
          if (result.status === "rejected") failure ??= result.reason;
      }
      if (failure !== undefined) throw failure;
    },
    onSettled: () => client.invalidateQueries({ queryKey: jobKeys.all }),
  });
}

/** Gives waiting jobs other priorities; more goes first. */
export function usePrioritiseJobs() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (changes: { id: string; priority: number }[]) => {
      for (const { id, priority } of changes)
        await answer(
          api.PATCH("/api/jobs/{job_id}", { params: { path: { job_id: id } }, body: { priority } }),
        );
    },
    onMutate: async (changes) => {
      await client.cancelQueries({ queryKey: jobKeys.all });
      for (const { id, priority } of changes)
        client.setQueriesData<KnownJobs>({ queryKey: jobKeys.all }, (known) =>
          withJob(known, id, (job) => ({ ...job, priority })),
        );
    },
    onSettled: () => client.invalidateQueries({ queryKey: jobKeys.all }),
  });
}
