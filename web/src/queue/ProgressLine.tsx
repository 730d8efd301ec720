/** A thin line that fills up; it moves to and fro while nobody knows how far it is. */

import { useTranslation } from "react-i18next";
import classes from "./ProgressLine.module.css";

export function ProgressLine({ share, isKnown }: { share: number; isKnown: boolean }) {
  const { t } = useTranslation("queue");
  const percent = Math.round(share * 100);
  return (
    <div
      className={classes.line}
      role="progressbar"
      aria-label={t("job.progress")}
      aria-valuemin={0}
      aria-valuemax={100}
      {...(isKnown ? { "aria-valuenow": percent } : {})}
      data-unknown={!isKnown || undefined}
    >
      <div className={classes.done} style={isKnown ? { transform: `scaleX(${share})` } : undefined} />
    </div>
  );
}
