/** Lengths of time in words, and how far a job is. */

import type { TFunction } from "i18next";
import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import type { Job } from "@/api/jobs";
import type { LivePicture, Progress } from "@/live/state";

/** Whole minutes and seconds; what is shorter than ten seconds keeps a digit. */
export function parts(seconds: number): { minutes: number; seconds: number } {
  const whole = Math.max(0, seconds < 9.95 ? Math.round(seconds * 10) / 10 : Math.round(seconds));
  return { minutes: Math.floor(whole / 60), seconds: whole % 60 };
}

export function duration(t: TFunction<"common">, length: number): string {
  const { minutes, seconds } = parts(length);
  if (minutes >= 60) return t("time.hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
  if (minutes >= 10 || (minutes > 0 && seconds === 0)) return t("time.wholeMinutes", { minutes });
  return minutes ? t("time.minutes", { minutes, seconds }) : t("time.seconds", { count: seconds });
}

/** What is left, no finer than anybody can tell. */
export function rough(seconds: number): number {
  if (seconds < 20) return Math.ceil(seconds);
  const grain = seconds < 120 ? 5 : seconds < 600 ? 15 : 60;
  return Math.round(seconds / grain) * grain;
}

export function useDuration(): (seconds: number) => string {
  const { t } = useTranslation("common");
  return useCallback((seconds) => duration(t, seconds), [t]);
}

/** How long a job that has ended was worked on. */
export function tookOf(job: Pick<Job, "started_at" | "finished_at" | "cached">): number | null {
  if (job.cached || job.started_at === null || job.finished_at === null) return null;
  return Math.max(0, job.finished_at - job.started_at);
}

/** The part of a picture's way that is done, from 0 to 1. Stages are equally long as far as anybody knows. */
export function shareOf(progress: Progress | undefined): number {
  if (progress === undefined) return 0;
  const own = progress.steps > 0 ? progress.step / progress.steps : 0;
  return Math.min(1, (progress.stage + own) / Math.max(1, progress.stages));
}

export type JobProgress = { share: number; eta: number | null };

/** How far a job is, over all its pictures, and the seconds that are left as far as can be told. */
export function progressOf(job: Job, live: Readonly<Record<number, LivePicture>> | undefined): JobProgress {
  let [sum, eta]: [number, number | null] = [0, null];
  for (const picture of job.pictures) {
    if (picture.image_id !== null || picture.error !== null) {
      sum += 1;
      continue;
    }
    const progress = live?.[picture.index]?.progress ?? told(job, picture.index);
    sum += live?.[picture.index]?.over ? 1 : shareOf(progress);
    if (typeof progress?.eta_s === "number") eta = Math.max(eta ?? 0, progress.eta_s);
  }
  return { share: sum / Math.max(1, job.pictures.length), eta };
}

const told = (job: Job, index: number) => job.progress?.find((progress) => progress.index === index);
