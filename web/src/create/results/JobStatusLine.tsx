/** What a job that waits or runs does now: its place or its progress, the time that is left, and a way to stop it. */

import { Button } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { type Job, useCancelJob } from "@/api/jobs";
import { useTellError } from "@/parts/errors";
import { ProgressLine } from "@/queue/ProgressLine";
import { useJobProgress } from "@/queue/useJobProgress";
import { useStatusWords } from "@/queue/words";
import classes from "./JobStatusLine.module.css";

export function JobStatusLine({ job, place }: { job: Job; place: number | null }) {
  const { t } = useTranslation();
  const cancel = useCancelJob();
  const tellError = useTellError();
  const progress = useJobProgress(job);
  const words = useStatusWords()(job, place, progress);
  return (
    <div className={classes.status}>
      {job.status === "processing" && <ProgressLine share={progress.share} isKnown={progress.isKnown} />}
      <div className={classes.row}>
        <span className={classes.words}>
          {words.map((word) => (
            <span key={word}>{word}</span>
          ))}
        </span>
        <Button
          variant="default"
          size="xs"
          radius="xl"
          disabled={job.cancel_requested}
          loading={cancel.isPending}
          onClick={() => cancel.mutate(job.id, { onError: tellError })}
        >
          {t("action.cancel")}
        </Button>
      </div>
    </div>
  );
}
