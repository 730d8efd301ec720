/** Why pictures were not painted, in the server's words, with its code and the two ways on. */

import { Button, Code } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { type Job, useRetryJob } from "@/api/jobs";
import { useTellError } from "@/parts/errors";
import classes from "./Fault.module.css";
import { faultsOf } from "./faults";
import { painted } from "./stream";
import { useReuse } from "./useReuse";

export function Fault({ job }: { job: Job }) {
  const { t, i18n } = useTranslation("queue");
  const { t: common } = useTranslation();
  const retry = useRetryJob();
  const reuse = useReuse();
  const tellError = useTellError();
  const faults = faultsOf(job);
  const isPartial = painted(job).length > 0;
  const missing = job.pictures.length - painted(job).length;
  const isRetryable = job.error?.retryable ?? faults.some(({ fault }) => fault.retryable);
  const code = job.error?.code ?? faults[0]?.fault.code ?? "other";
  const title = i18n.exists(`queue:fault.${code}`) ? t(`fault.${code as "other"}`) : t("fault.other");
  return (
    <section className={classes.fault} aria-label={title}>
      <IconAlertTriangle size={24} stroke={1.5} aria-hidden />
      <div className={classes.text}>
        <strong>{isPartial ? t("note.partial", { count: missing }) : title}</strong>
        {faults.map(({ fault, numbers }) => (
          <p key={fault.message}>
            {isPartial && numbers.length > 0 && (
              <span className="quiet">
                {numbers.map((number) => t("note.number", { number: number + 1 })).join(", ")}:{" "}
              </span>
            )}
            {fault.message} <Code>{t("note.code", { code: fault.code })}</Code>
          </p>
        ))}
        <div className={classes.ways}>
          <Button
            size="sm"
            variant={isRetryable || isPartial ? "filled" : "default"}
            loading={retry.isPending}
            onClick={() => retry.mutate(job.id, { onError: tellError })}
          >
            {isPartial ? t("job.retryRest") : common("action.retry")}
          </Button>
          <Button
            size="sm"
            variant={isRetryable || isPartial ? "default" : "filled"}
            onClick={() => reuse.settings(job)}
          >
            {t("job.change")}
          </Button>
        </div>
      </div>
    </section>
  );
}
