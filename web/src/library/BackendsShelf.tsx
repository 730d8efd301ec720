/** Where pictures are made, the workers that are alive, and the server's version. */

import { Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { backends, health } from "@/api/catalog";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { BackendCard } from "./BackendCard";
import sections from "./BackendsShelf.module.css";
import classes from "./library.module.css";
import { NoWorker } from "./NoWorker";
import { Waiting } from "./Waiting";
import { WorkerCard } from "./WorkerCard";

export function BackendsShelf() {
  const { t } = useTranslation("library");
  const { data, error, refetch } = useQuery(backends);
  const { data: server } = useQuery(health);
  if (data === undefined)
    return error ? <ErrorNotice error={error} onRetry={() => void refetch()} /> : <Waiting height={260} />;
  const byDefault = data.backends.toSorted((a, b) => Number(b === data.default) - Number(a === data.default));
  const workers = data.workers.toSorted((a, b) => Number(b.lane === "native") - Number(a.lane === "native"));
  return (
    <div className={sections.sections}>
      <ul className={classes.grid}>
        {byDefault.map((name) => {
          const able = data.capabilities[name];
          return (
            able && (
              <li key={name}>
                <BackendCard name={name} able={able} isDefault={name === data.default} />
              </li>
            )
          );
        })}
      </ul>
      <section aria-labelledby="workers">
        <Title order={2} id="workers" mb="md">
          {t("backends.workers")}
        </Title>
        {workers.some((worker) => worker.lane === "native") || <NoWorker />}
        <ul className={classes.grid}>
          {workers.map((worker) => (
            <li key={worker.id}>
              <WorkerCard worker={worker} />
            </li>
          ))}
        </ul>
      </section>
      {server && (
        <p className={`numbers ${classes.foot}`}>
          {t("backends.server")}: {t("backends.serverVersion", { version: server.version })}
        </p>
      )}
    </div>
  );
}
