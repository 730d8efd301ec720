import { Skeleton, Tooltip } from "@mantine/core";
import { IconCheck } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Preset } from "@/api/catalog";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";
import { PresetSketch } from "./PresetSketch";
import { isPictured, usePresetName } from "./presetNames";

const ORDER = ["progressive", "single", "sketch"];

/** The presets as pictures of the same subject, so that one sees what each of them does. */
export function PresetPicker() {
  const { t } = useTranslation("create");
  const { form, presets } = useChoices();
  const error = useFieldError("preset");
  const chosen = form.preset ?? presets?.default;
  const sorted = presets?.presets.toSorted((one, other) => rank(one) - rank(other));
  const choose = (preset: Preset) =>
    useForm.getState().set({ preset: preset.name === presets?.default ? null : preset.name, stages: null });
  return (
    <Field
      title={t("preset.title")}
      hint={t("preset.hint")}
      aside={form.stages && t("stages.own")}
      error={error}
    >
      <div className={classes.presets} role="radiogroup" aria-label={t("preset.title")}>
        {sorted?.map((preset) => (
          <Choice
            key={preset.name}
            preset={preset}
            isChosen={!form.stages && preset.name === chosen}
            onChoose={() => choose(preset)}
          />
        ))}
        {!sorted && ORDER.map((name) => <Skeleton key={name} radius={12} style={{ aspectRatio: "0.75" }} />)}
      </div>
    </Field>
  );
}

function rank({ name }: Preset): number {
  const place = ORDER.indexOf(name);
  return place < 0 ? ORDER.length : place;
}

function Choice({ preset, isChosen, onChoose }: { preset: Preset; isChosen: boolean; onChoose: () => void }) {
  const { t } = useTranslation("create");
  const name = usePresetName()(preset);
  const last = preset.stages?.at(-1);
  const isOurs = isPictured(preset);
  const about = isOurs ? t(`preset.${preset.name}.about`) : last ? `${last.width} × ${last.height}` : "";
  const explained = preset.problem || (isOurs ? t(`preset.${preset.name}.explained`) : preset.description);
  return (
    <Tooltip label={explained} disabled={!explained}>
      <label className={classes.preset}>
        <input
          type="radio"
          name="preset"
          checked={isChosen}
          onChange={onChoose}
          onClick={onChoose}
          disabled={preset.problem !== ""}
        />
        <span className={classes.picture}>
          {isOurs ? (
            <img src={`/presets/${preset.name}.webp`} alt="" width={176} height={176} loading="lazy" />
          ) : (
            <PresetSketch stages={preset.stages ?? []} />
          )}
          <span className={classes.tick} aria-hidden>
            <IconCheck size={13} stroke={2.6} />
          </span>
        </span>
        <span className={classes.caption}>
          {name}
          <small>{about}</small>
        </span>
      </label>
    </Tooltip>
  );
}
