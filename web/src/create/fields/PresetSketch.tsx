import type { Stage } from "@/api/catalog";
import classes from "./fields.module.css";

/** A preset without a picture: its stages as frames that grow out of one another. */
export function PresetSketch({ stages }: { stages: readonly Stage[] }) {
  const last = stages.at(-1);
  const longest = last ? Math.max(last.width, last.height) : 1;
  return (
    <svg className={classes.sketch} viewBox="-1 -1 102 102" aria-hidden="true">
      {stages.map((stage, index) => {
        const width = (100 * stage.width) / longest;
        const height = (100 * stage.height) / longest;
        return (
          <rect
            // biome-ignore lint/suspicious/noArrayIndexKey: stages have no name but their place
            key={index}
            x={0}
            y={100 - height}
            width={width}
            height={height}
            rx={4}
            fill="none"
            stroke="currentColor"
            strokeWidth={2}
            strokeOpacity={0.35 + (0.65 * (index + 1)) / stages.length}
          />
        );
      })}
    </svg>
  );
}
