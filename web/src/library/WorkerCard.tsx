/** One worker that is alive: what it paints on, what it holds, and how it is. */

import { Progress, Title } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Worker } from "@/api/catalog";
import { ago, bytes } from "./amounts";
import sections from "./BackendsShelf.module.css";
import classes from "./library.module.css";

export function WorkerCard({ worker }: { worker: Worker }) {
  const { t, i18n } = useTranslation("library");
  const { device, lane } = worker;
  const now = Date.now() / 1000;
  const isNative = lane === "native";
  const title = isNative ? [device.device, device.device_name].filter(Boolean).join(" · ") : "";
  return (
    <article className={`surface ${classes.card}`} aria-labelledby={worker.id}>
      <div className={classes.body}>
        <Title order={3} className={classes.name} id={worker.id}>
          {isNative ? title || worker.host : t("backends.remote")}
        </Title>
        <div className={classes.state}>
          <span className={classes.dot} data-tone={device.problems?.length ? "bad" : "good"} aria-hidden />
          {t("backends.seen", { time: ago(worker.seen_at, now, i18n.language) })}
        </div>
        {device.problems?.map((problem) => (
          <div key={problem} className={classes.trouble}>
            <IconAlertTriangle size={15} aria-hidden /> {problem}
          </div>
        ))}
        {device.notes?.map((note) => (
          <div key={note} className={classes.facts}>
            {note}
          </div>
        ))}
        {device.memory_total_bytes !== undefined && (
          <Memory total={device.memory_total_bytes} free={device.memory_free_bytes ?? 0} />
        )}
        {isNative && (
          <div className={classes.facts}>
            {t("backends.holds")}: {worker.loaded.join(", ") || t("backends.holdsNothing")}
          </div>
        )}
        <div className={`numbers ${classes.facts}`}>
          <span>{t("backends.slots", { count: worker.slots })}</span>
          {device.threads !== undefined && <span>{t("backends.threads", { count: device.threads })}</span>}
          <span>{t("backends.started", { time: ago(worker.started_at, now, i18n.language) })}</span>
          <span>{t("backends.process", { pid: worker.pid, host: worker.host })}</span>
        </div>
        <div>
          <Pairs title={t("backends.versions")} pairs={device.versions} />
          <Pairs title={t("backends.precision")} pairs={device.precision} />
        </div>
      </div>
    </article>
  );
}

function Memory({ total, free }: { total: number; free: number }) {
  const { t, i18n } = useTranslation("library");
  const words = t("backends.memoryUsed", {
    used: bytes(total - free, i18n.language),
    total: bytes(total, i18n.language),
  });
  return (
    <div>
      <Progress
        value={((total - free) / total) * 100}
        size={7}
        radius="sm"
        aria-label={t("backends.memory")}
        mb={6}
      />
      <div className={`numbers ${classes.facts}`}>{words}</div>
    </div>
  );
}

function Pairs({ title, pairs }: { title: string; pairs: Record<string, string> | undefined }) {
  if (pairs === undefined || Object.keys(pairs).length === 0) return null;
  return (
    <details className={sections.more}>
      <summary>{title}</summary>
      <p>
        {Object.entries(pairs)
          .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`)
          .join(" · ")}
      </p>
    </details>
  );
}
