import { Skeleton, Tooltip } from "@mantine/core";
import { IconCheck } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Preset } from "@/api/catalog";
import { useFamily } from "@/parts/families";
import { useForm } from "../form";
import { misfit, named, presetOf, withPreset } from "../presets";
import { givenBack } from "../stages/stages";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";
import { PresetPicture } from "./PresetPicture";
import { isPictured, PICTURED, SHIPPED, usePresetWords } from "./presetNames";

/** The presets as pictures, so that one sees what each of them does; below them, small, those that cannot be chosen. */
export function PresetPicker() {
  const { t } = useTranslation("create");
  const { form, presets, preset, models, abilities } = useChoices();
  const family = useFamily();
  const error = useFieldError("preset");
  const isNative = abilities.backend === "native";
  const own = isNative ? named(form.model, models) : undefined;
  const otherwise = presetOf({ ...form, preset: null }, own, presets);
  const hindrance = (one: Preset): string => {
    const why = isNative ? misfit(one, form.model, models) : null;
    if (one.problem || !why) return one.problem;
    return why === "other"
      ? t("preset.other", { family: family(one.family), model: form.model, own: family(own?.family ?? "") })
      : t("preset.missing", { family: family(one.family) });
  };
  const sorted = presets?.presets
    .toSorted((one, other) => rank(one) - rank(other))
    .map((one) => ({ one, reason: hindrance(one) }));
  const choose = (one: Preset) =>
    useForm.getState().set({
      ...givenBack(form, preset),
      ...withPreset(one, form, models),
      ...(one.name === otherwise?.name ? { preset: null } : {}),
    });
  const choice = ({ one, reason }: { one: Preset; reason: string }) => (
    <Choice
      key={one.name}
      preset={one}
      reason={reason}
      isChosen={!form.stages && one.name === (form.preset ?? preset?.name)}
      onChoose={() => choose(one)}
    />
  );
  const unfit = sorted?.filter(({ reason }) => reason) ?? [];
  return (
    <Field
      title={t("preset.title")}
      hint={t("preset.hint")}
      aside={form.stages && t("stages.own")}
      error={error}
    >
      <div role="radiogroup" aria-label={t("preset.title")}>
        <div className={classes.presets}>
          {sorted?.filter(({ reason }) => !reason).map(choice)}
          {!sorted &&
            PICTURED.map((name) => <Skeleton key={name} radius={12} style={{ aspectRatio: "0.75" }} />)}
        </div>
        {unfit.length > 0 && (
          <div className={classes.unfit}>
            <span className={classes.note}>{t("preset.unfit")}</span>
            {unfit.map(choice)}
          </div>
        )}
      </div>
    </Field>
  );
}

function rank({ name }: Preset): number {
  const place = (SHIPPED as readonly string[]).indexOf(name);
  return place < 0 ? SHIPPED.length : place;
}

function Choice(props: { preset: Preset; reason: string; isChosen: boolean; onChoose: () => void }) {
  const { preset, reason, isChosen, onChoose } = props;
  const { t } = useTranslation("create");
  const { name, explained } = usePresetWords(preset);
  const last = preset.stages?.at(-1);
  const about = isPictured(preset)
    ? t(`preset.${preset.name}.about`)
    : last
      ? `${last.width} × ${last.height}`
      : "";
  const choose = () => !reason && onChoose();
  return (
    <Tooltip
      label={reason || explained}
      disabled={!reason && !explained}
      events={{ hover: true, focus: true, touch: true }}
    >
      <label className={classes.preset} data-unfit={reason !== "" || undefined}>
        <input
          type="radio"
          name="preset"
          checked={isChosen}
          onChange={choose}
          onClick={choose}
          aria-disabled={reason !== "" || undefined}
          aria-description={reason || undefined}
        />
        <span className={classes.picture}>
          <PresetPicture preset={preset} isSmall={reason !== ""} />
          <span className={classes.tick} aria-hidden>
            <IconCheck size={13} stroke={2.6} />
          </span>
        </span>
        <span className={classes.caption}>
          {name}
          {!reason && <small>{about}</small>}
        </span>
      </label>
    </Tooltip>
  );
}
