/** A picture on its way: the newest preview, and how far it is. Only this is rendered when a preview arrives. */

import { memo } from "react";
import { useTranslation } from "react-i18next";
import type { Job } from "@/api/jobs";
import { useLive } from "@/live/stream";
import { shareOf } from "@/queue/times";
import classes from "./LivePlace.module.css";
import type { Size } from "./shape";

type Props = { job: Job; index: number; stages: readonly Size[]; isNarrow: boolean };

export const LivePlace = memo(function LivePlace({ job, index, stages, isNarrow }: Props) {
  const { t } = useTranslation("queue");
  const live = useLive((state) => state.jobs[job.id]?.[index]);
  const progress = live?.progress ?? job.progress?.find((told) => told.index === index);
  const size = live?.size?.stage === progress?.stage ? live?.size : progress && stages[progress.stage];
  const isFinishing = live?.over || (progress && shareOf(progress) >= 1);
  return (
    <>
      {live?.preview && (
        <img className={classes.preview} src={live.preview} alt="" data-stage={live.previewStage} />
      )}
      {!live?.preview && (
        <div className={classes.quiet} data-running={job.status === "processing" || undefined} />
      )}
      {progress && (
        <figcaption className={classes.words}>
          {isFinishing ? (
            <span>{t("picture.finishing")}</span>
          ) : (
            <>
              <span>{t("picture.stage", { stage: progress.stage + 1, stages: progress.stages })}</span>
              {size && !isNarrow && <span>{t("picture.size", size)}</span>}
              {!isNarrow && <span>{t("picture.step", { step: progress.step, steps: progress.steps })}</span>}
            </>
          )}
        </figcaption>
      )}
    </>
  );
});
