/** One job in the queue: small pictures, its prompt, what it does or what became of it, and what can be done. */

import { ActionIcon, Tooltip } from "@mantine/core";
import { IconArrowBarToUp, IconChevronDown, IconChevronUp, IconRefresh, IconX } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { memo } from "react";
import { useTranslation } from "react-i18next";
import { type Job, useCancelJob, useRetryJob } from "@/api/jobs";
import { isActive, painted } from "@/create/results/stream";
import { localeOf } from "@/gallery/locale";
import { useTellError } from "@/parts/errors";
import classes from "./JobRow.module.css";
import { ProgressLine } from "./ProgressLine";
import { RowPictures } from "./RowPictures";
import { tookOf, useDuration } from "./times";
import { useJobProgress } from "./useJobProgress";
import { useStatusWords } from "./words";

export type Moves = {
  isBusy: boolean;
  isFirst: boolean;
  isLast: boolean;
  front: () => void;
  up: () => void;
  down: () => void;
};

type Props = { job: Job; place?: number; moves?: Moves; onLeave?: () => void };

export const JobRow = memo(function JobRow({ job, place, moves, onLeave }: Props) {
  const { t } = useTranslation("queue");
  const prompt = job.request.prompt || t("job.noPrompt");
  const [first] = painted(job);
  const title = <span className={classes.prompt}>{prompt}</span>;
  return (
    <li className={classes.row}>
      <RowPictures job={job} />
      <div className={classes.text}>
        {first ? (
          <Link
            to="/gallery"
            search={{ image: first.image_id ?? "" }}
            className={classes.open}
            onClick={onLeave}
            aria-label={t("line.view", { prompt })}
          >
            {title}
          </Link>
        ) : (
          title
        )}
        {isActive(job) ? <Doing job={job} place={place ?? null} /> : <Ended job={job} />}
      </div>
      <RowActions job={job} prompt={prompt} {...(moves ? { moves } : {})} />
    </li>
  );
});

function Doing({ job, place }: { job: Job; place: number | null }) {
  const { t } = useTranslation("queue");
  const progress = useJobProgress(job);
  const words = useStatusWords()(job, place, progress);
  if (job.priority !== 0 && job.status === "pending")
    words.push(t("note.priority", { priority: job.priority }));
  return (
    <>
      <span className={classes.words}>{words.join(" · ")}</span>
      {job.status === "processing" && <ProgressLine share={progress.share} isKnown={progress.isKnown} />}
    </>
  );
}

function Ended({ job }: { job: Job }) {
  const { t, i18n } = useTranslation("queue");
  const { t: common } = useTranslation();
  const duration = useDuration();
  const done = painted(job).length;
  const took = tookOf(job);
  const words = [common(`status.${job.status}`)];
  if (job.status === "completed") words.splice(0, 1, common("pictures", { count: done }));
  else if (done) words.push(t("job.done", { painted: done, count: job.pictures.length }));
  if (took !== null) words.push(t("job.took", { time: duration(took) }));
  const at = new Date((job.finished_at ?? job.created_at) * 1000);
  words.push(at.toLocaleString(localeOf(i18n.language), isToday(at) ? { timeStyle: "short" } : SHORT));
  return (
    <>
      <span className={classes.words}>{words.join(" · ")}</span>
      {job.error && job.status !== "cancelled" && (
        <span className={classes.fault} title={job.error.message}>
          {job.error.message} <code>{job.error.code}</code>
        </span>
      )}
    </>
  );
}

const SHORT = { dateStyle: "medium", timeStyle: "short" } as const;
const isToday = (at: Date) => at.toDateString() === new Date().toDateString();

function RowActions({ job, prompt, moves }: { job: Job; prompt: string; moves?: Moves }) {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const cancel = useCancelJob();
  const retry = useRetryJob();
  const tellError = useTellError();
  const canRetry = !isActive(job) && job.pictures.some((picture) => picture.image_id === null);
  const buttons = [];
  if (moves && !(moves.isFirst && moves.isLast))
    buttons.push(
      {
        label: t("line.front"),
        icon: IconArrowBarToUp,
        act: moves.front,
        off: moves.isFirst || moves.isBusy,
      },
      { label: t("line.up"), icon: IconChevronUp, act: moves.up, off: moves.isFirst || moves.isBusy },
      { label: t("line.down"), icon: IconChevronDown, act: moves.down, off: moves.isLast || moves.isBusy },
    );
  if (isActive(job))
    buttons.push({
      label: t("line.remove", { prompt }),
      short: common("action.cancel"),
      icon: IconX,
      act: () => cancel.mutate(job.id, { onError: tellError }),
      off: job.cancel_requested || cancel.isPending,
    });
  if (canRetry)
    buttons.push({
      label: painted(job).length ? t("job.retryRest") : common("action.retry"),
      icon: IconRefresh,
      act: () => retry.mutate(job.id, { onError: tellError }),
      off: retry.isPending,
    });
  return (
    <div className={classes.actions}>
      {buttons.map(({ label, icon: Icon, act, off, ...more }) => (
        <Tooltip key={label} label={"short" in more ? more.short : label}>
          <ActionIcon
            className={classes.action}
            aria-label={"short" in more ? label : `${label}: ${prompt}`}
            onClick={act}
            disabled={off}
          >
            <Icon size={19} stroke={1.7} />
          </ActionIcon>
        </Tooltip>
      ))}
    </div>
  );
}
