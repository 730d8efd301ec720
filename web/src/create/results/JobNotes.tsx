/** The truth about a job: what failed and what to do, what is not quite as asked, and why it was begun again. */

import { Button } from "@mantine/core";
import { IconInfoCircle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { type Job, useRetryJob } from "@/api/jobs";
import { useTellError } from "@/parts/errors";
import { AdapterLine } from "./AdapterLine";
import { Fault } from "./Fault";
import classes from "./JobNotes.module.css";
import { isActive, painted } from "./stream";
import { useReuse } from "./useReuse";

export function JobNotes({ job }: { job: Job }) {
  const { t } = useTranslation("queue");
  const done = painted(job).length;
  const count = job.pictures.length;
  const isFaulty = job.status === "failed" || job.status === "partial";
  return (
    <>
      {isFaulty && <Fault job={job} />}
      {job.status === "cancelled" && (
        <Note action={<RunRest job={job} />}>
          {done ? t("note.cancelled", { painted: done, count }) : t("note.cancelledNone")}
        </Note>
      )}
      {job.cached && <Note action={<PaintAnew job={job} />}>{t("note.cached")}</Note>}
      {job.attempt > 1 && (
        <Note>{t(isActive(job) ? "note.attemptRunning" : "note.attempt", { count: job.attempt })}</Note>
      )}
      {(job.adapters.length > 0 || job.warnings.length > 0) && (
        <ul className={classes.truth}>
          {job.adapters.map((outcome) => (
            <AdapterLine key={outcome.name} outcome={outcome} />
          ))}
          {job.warnings
            .filter(
              (warning) => !job.adapters.some(({ reason }) => reason !== "" && warning.includes(reason)),
            )
            .map((warning) => (
              <li key={warning} data-kind="warning">
                {warning}
              </li>
            ))}
        </ul>
      )}
    </>
  );
}

function Note({ children, action }: { children: ReactNode; action?: ReactNode }) {
  return (
    <div className={classes.note}>
      <IconInfoCircle size={18} stroke={1.6} aria-hidden />
      <span>{children}</span>
      {action}
    </div>
  );
}

function PaintAnew({ job }: { job: Job }) {
  const { t } = useTranslation("queue");
  const reuse = useReuse();
  return (
    <Button variant="subtle" size="compact-sm" loading={reuse.isSending} onClick={() => reuse.anew(job)}>
      {t("job.again")}
    </Button>
  );
}

function RunRest({ job }: { job: Job }) {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const retry = useRetryJob();
  const tellError = useTellError();
  return (
    <Button
      variant="subtle"
      size="compact-sm"
      loading={retry.isPending}
      onClick={() => retry.mutate(job.id, { onError: tellError })}
    >
      {painted(job).length ? t("job.retryRest") : common("action.retry")}
    </Button>
  );
}
