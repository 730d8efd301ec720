/** Checkpoints: what they are, what they hold in memory, and buttons to load and to unload them. */

import { Box } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { models } from "@/api/catalog";
import { Empty } from "@/parts/Empty";
import { ErrorNotice } from "@/parts/ErrorNotice";
import classes from "./library.module.css";
import { ModelCard } from "./ModelCard";
import { NoWorker } from "./NoWorker";
import { Waiting } from "./Waiting";
import { Where } from "./Where";
import { useWorkers } from "./workers";

export function ModelsShelf() {
  const { t } = useTranslation("library");
  const { data, error, refetch } = useQuery(models);
  const workers = useWorkers("native");
  if (data === undefined)
    return error ? <ErrorNotice error={error} onRetry={() => void refetch()} /> : <Waiting height={380} />;
  if (data.models.length === 0) {
    if (workers === undefined) return <Waiting height={380} />;
    if (workers.length === 0) return <NoWorker />;
    return (
      <Box role="status">
        <Empty
          icon={<IconSearch size={36} stroke={1.3} />}
          title={t("models.looking")}
          hint={t("models.lookingHint")}
        />
      </Box>
    );
  }
  return (
    <>
      <ul className={classes.grid}>
        {data.models.map((model) => (
          <li key={model.name}>
            <ModelCard model={model} isDefault={model.name === data.default} />
          </li>
        ))}
      </ul>
      <Where shelf="models" />
    </>
  );
}
