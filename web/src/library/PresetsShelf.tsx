/** Named ways to paint. */

import { useQuery } from "@tanstack/react-query";
import { presets } from "@/api/catalog";
import { ErrorNotice } from "@/parts/ErrorNotice";
import classes from "./library.module.css";
import { PresetCard } from "./PresetCard";
import { longest } from "./stages";
import { Waiting } from "./Waiting";
import { Where } from "./Where";

export function PresetsShelf() {
  const { data, error, refetch } = useQuery(presets);
  if (data === undefined)
    return error ? <ErrorNotice error={error} onRetry={() => void refetch()} /> : <Waiting height={400} />;
  const side = longest(data.presets.flatMap((preset) => preset.stages ?? []));
  return (
    <>
      <ul className={classes.grid}>
        {data.presets.map((preset) => (
          <li key={preset.name}>
            <PresetCard preset={preset} isDefault={preset.name === data.default} side={side} />
          </li>
        ))}
      </ul>
      <Where shelf="presets" />
    </>
  );
}
