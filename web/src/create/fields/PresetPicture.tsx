import type { Preset } from "@/api/catalog";
import { useFamily } from "@/parts/families";
import classes from "./fields.module.css";
import { PresetSketch } from "./PresetSketch";
import { isPictured } from "./presetNames";

/** What a preset looks like: its picture, or a colour of its own with its family's name or its stages on it. */
export function PresetPicture({ preset, isSmall = false }: { preset: Preset; isSmall?: boolean }) {
  const family = useFamily();
  if (isPictured(preset))
    return <img src={`/presets/${preset.name}.webp`} alt="" width={176} height={176} loading="lazy" />;
  const hue = hueOf(preset.name);
  return (
    <span className={classes.tinted} style={{ "--hue": hue } as React.CSSProperties} aria-hidden>
      {!isSmall && (preset.family ? family(preset.family) : <PresetSketch stages={preset.stages ?? []} />)}
    </span>
  );
}

/** The same for the same name, and well apart for names that differ a little. */
function hueOf(name: string): number {
  return [...name].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 997, 7) % 360;
}
