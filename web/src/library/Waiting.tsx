/** Cards that are on their way; shown only when they take long enough to be missed. */

import { Skeleton } from "@mantine/core";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import classes from "./library.module.css";

const PATIENCE_MS = 200;

export function Waiting({ height = 220 }: { height?: number }) {
  const { t } = useTranslation();
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, []);
  if (!isLate) return null;
  return (
    <div className={classes.grid} role="status" aria-label={t("loading")}>
      <Skeleton height={height} radius="lg" />
      <Skeleton height={height} radius="lg" />
    </div>
  );
}
