/** How far a job is, from its events; until the first one arrives, from what the server knows of it. */

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { useShallow } from "zustand/react/shallow";
import { type Job, jobById } from "@/api/jobs";
import { useLive } from "@/live/stream";
import { type JobProgress, progressOf } from "./times";

export function useJobProgress(job: Job): JobProgress & { isKnown: boolean } {
  const isRunning = job.status === "processing";
  const hasNews = useLive((state) => job.id in state.jobs);
  const { data } = useQuery({ ...jobById(job.id), enabled: isRunning && !hasNews });
  const told = isRunning && !hasNews ? data?.progress : undefined;
  const known = useMemo(() => (told ? { ...job, progress: told } : job), [job, told]);
  const progress = useLive(
    useShallow((state) => {
      const { share, eta } = progressOf(known, state.jobs[job.id]);
      // No finer than what can be seen: fewer renderings.
      return { share: Math.round(share * 500) / 500, eta: eta === null ? null : Math.round(eta) };
    }),
  );
  return { ...progress, isKnown: hasNews || told !== undefined || progress.share > 0 };
}
