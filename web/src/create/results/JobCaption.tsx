/** What a job was asked for, and what it took: the prompt, model, preset, size, seed and time. */

import { ActionIcon, Tooltip, UnstyledButton } from "@mantine/core";
import { useClipboard } from "@mantine/hooks";
import { IconCheck, IconCopy, IconRestore } from "@tabler/icons-react";
import type { TFunction } from "i18next";
import { useLayoutEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Job } from "@/api/jobs";
import { tookOf, useDuration } from "@/queue/times";
import classes from "./JobCaption.module.css";
import { type Catalog, presetName, type Size } from "./shape";
import { useReuse } from "./useReuse";

type Props = { job: Job; size: Size; catalog: Catalog };

export function JobCaption({ job, size, catalog }: Props) {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const duration = useDuration();
  const reuse = useReuse();
  const clipboard = useClipboard({ timeout: 1500 });
  const { request, pictures } = job;
  const seed = pictures[0]?.seed ?? "";
  const seedText = pictures.length > 1 ? t("job.seeds", { seed }) : t("job.seed", { seed });
  const took = tookOf(job);
  const isNative = (request.backend ?? "native") === "native";
  const facts = [
    request.model ?? (isNative ? catalog.defaultModel : null),
    request.stages ? null : presetName(request, catalog),
    size.width > 16 ? t("picture.size", size) : null,
    referenceText(request, t),
    isNative ? null : request.backend,
    job.priority !== 0 ? t("note.priority", { priority: job.priority }) : null,
    took === null ? null : t("job.took", { time: duration(took) }),
  ].filter((fact): fact is string => Boolean(fact));

  return (
    <div className={classes.caption}>
      <div className={classes.said}>
        <Prompt text={request.prompt || t("job.noPrompt")} isMissing={!request.prompt} />
        <div className={classes.facts}>
          {facts.map((fact) => (
            <span key={fact}>{fact}</span>
          ))}
          <UnstyledButton
            className={classes.seed}
            onClick={() => clipboard.copy(seed)}
            aria-label={`${common("action.copy")}: ${seedText}`}
          >
            {seedText}
            {clipboard.copied ? <IconCheck size={14} aria-hidden /> : <IconCopy size={14} aria-hidden />}
            <span className="hidden" role="status">
              {clipboard.copied ? common("action.copied") : ""}
            </span>
          </UnstyledButton>
        </div>
      </div>
      <Tooltip label={t("job.reuse")}>
        <ActionIcon size={40} aria-label={t("job.reuse")} onClick={() => reuse.settings(job)}>
          <IconRestore size={20} stroke={1.6} />
        </ActionIcon>
      </Tooltip>
    </div>
  );
}

function referenceText(request: Job["request"], t: TFunction<"queue">): string | null {
  const count = request.references?.length ?? 0;
  if (count === 0) return null;
  const looks = request.references_as === "context" || request.references_as === "stitched";
  return looks ? t("job.looked", { count }) : t(request.mask ? "job.masked" : "job.reference");
}

function Prompt({ text, isMissing }: { text: string; isMissing: boolean }) {
  const { t } = useTranslation("queue");
  const [isFull, setFull] = useState(false);
  const [isCut, setCut] = useState(false);
  const ref = useRef<HTMLParagraphElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another text has another height
  useLayoutEffect(() => {
    const shown = ref.current;
    if (shown && !isFull) setCut(shown.scrollHeight > shown.clientHeight + 2);
  }, [text, isFull]);
  return (
    <div>
      <p
        ref={ref}
        className={isFull ? classes.prompt : `${classes.prompt} clamp`}
        data-missing={isMissing || undefined}
      >
        {text}
      </p>
      {(isCut || isFull) && (
        <UnstyledButton className={classes.more} onClick={() => setFull(!isFull)} aria-expanded={isFull}>
          {isFull ? t("job.less") : t("job.more")}
        </UnstyledButton>
      )}
    </div>
  );
}
