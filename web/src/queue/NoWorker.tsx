/** Says that nobody paints, while nobody does, and what to do about it. */

import { IconMoonStars } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { backends } from "@/api/catalog";
import classes from "./NoWorker.module.css";

export function NoWorker() {
  const { t } = useTranslation("queue");
  const { data, isError } = useQuery(backends);
  if (data === undefined || isError || data.workers.some((worker) => worker.lane === "native")) return null;
  return (
    <div className={classes.notice} role="status">
      <IconMoonStars size={22} stroke={1.5} aria-hidden />
      <div>
        <strong>{t("workers.title")}</strong>
        <p>{t("workers.hint")}</p>
      </div>
    </div>
  );
}
