/** A preset's stages drawn as frames that grow. */

import { useTranslation } from "react-i18next";
import type { Stage } from "@/api/catalog";
import classes from "./StageFrames.module.css";
import { frames } from "./stages";

const LARGEST_PX = 138;
const SMALL_PX = 30;

/** `side` is the longest one of all presets, in pixels, so that the drawings can be compared. */
export function StageFrames({ stages, side }: { stages: readonly Stage[]; side: number }) {
  const { t } = useTranslation("library");
  const sizes = stages.map(({ width, height }) => `${width} × ${height}`).join(", ");
  return (
    <div className={classes.drawing} role="img" aria-label={t("presets.drawing", { sizes })}>
      <div className={classes.frames}>
        {frames(stages, LARGEST_PX, side).map((frame, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: stages have no name, and their order is what they are
          <div key={index} className={classes.frame} style={frame} />
        ))}
      </div>
    </div>
  );
}

/** One line for each stage: a small frame, its size, steps, and sampler. */
export function StageLines({ stages, side }: { stages: readonly Stage[]; side: number }) {
  const { t } = useTranslation("library");
  const small = frames(stages, SMALL_PX, side);
  return (
    <ol className={`numbers ${classes.stages}`}>
      {stages.map(({ width, height, steps, sampler }, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: stages have no name, and their order is what they are
        <li key={index}>
          <span className={classes.frame} style={small[index]} aria-hidden />
          <span>
            {width} × {height}
          </span>
          <span>{t("presets.steps", { count: steps ?? 20 })}</span>
          <span>{sampler}</span>
        </li>
      ))}
    </ol>
  );
}
