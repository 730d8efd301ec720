/** What a job that waits or runs does, in a few words. */

import { useTranslation } from "react-i18next";
import type { Job } from "@/api/jobs";
import { type JobProgress, rough, useDuration } from "./times";

export function useStatusWords() {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const duration = useDuration();
  return (job: Job, place: number | null, progress: JobProgress & { isKnown: boolean }): string[] => {
    if (job.cancel_requested) return [t("job.cancelling")];
    if (job.status === "pending") {
      const before = place ?? job.queue_position;
      if (before === null) return [common("status.pending")];
      return [before === 0 ? t("job.next") : t("job.before", { count: before })];
    }
    const words = [progress.isKnown ? t("job.painting") : t("job.starting")];
    const count = job.pictures.length;
    const painted = job.pictures.filter((picture) => picture.image_id !== null).length;
    if (count > 1 && painted > 0) words.push(t("job.done", { painted, count }));
    if (progress.eta !== null && progress.eta >= 1)
      words.push(common("time.left", { time: duration(rough(progress.eta)) }));
    return words;
  };
}
