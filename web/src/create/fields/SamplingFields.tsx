import { Select } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { isShown, MAX_CLIP_SKIP, MAX_GUIDANCE } from "../abilities";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";
import { NumberField } from "./NumberField";

/** Steps, guidance, sampler, schedule and shift, and what only some families are told. What is left open, the preset decides. */
export function SamplingFields() {
  const { t } = useTranslation("create");
  const { form, preset, presets, abilities, limits } = useChoices();
  const { set } = useForm.getState();
  const errors = {
    steps: useFieldError("steps"),
    cfg: useFieldError("cfg"),
    guidance: useFieldError("guidance"),
    clipSkip: useFieldError("clipSkip", "clip_skip"),
    sampler: useFieldError("sampler"),
    schedule: useFieldError("schedule"),
    shift: useFieldError("shift"),
  };
  const first = preset?.stages?.[0];
  const isMany = (preset?.stages?.length ?? 1) > 1;
  const isOwn = form.stages !== null;
  const cannotGuide = abilities.cannot("guidance");
  const samplers = abilities.capabilities?.samplers ?? presets?.samplers ?? [];
  const schedules = abilities.capabilities?.schedules ?? presets?.schedules ?? [];
  return (
    <Field title={t("sampling.title")}>
      {isOwn && <p className={classes.note}>{t("sampling.own")}</p>}
      <div className={classes.pair}>
        <NumberField
          label={t("sampling.steps")}
          description={isMany ? t("sampling.firstStage") : undefined}
          placeholder={placeholder(first?.steps)}
          value={form.steps}
          onValue={(steps) => set({ steps })}
          min={1}
          max={limits.max_steps}
          allowDecimal={false}
          disabled={isOwn}
          error={errors.steps}
        />
        <NumberField
          label={t("sampling.cfg")}
          description={isMany ? t("sampling.firstStage") : undefined}
          placeholder={placeholder(first?.cfg)}
          value={form.cfg}
          onValue={(cfg) => set({ cfg })}
          min={0}
          max={limits.max_cfg}
          step={0.5}
          disabled={isOwn || cannotGuide}
          error={errors.cfg}
        />
        {isShown(abilities, "distilled_guidance", form.guidance) && (
          <NumberField
            label={t("sampling.guidance")}
            description={isMany ? t("sampling.everyStage") : undefined}
            placeholder={placeholder(first?.guidance ?? undefined) || t("sampling.fromFamily")}
            value={form.guidance}
            onValue={(guidance) => set({ guidance })}
            min={0}
            max={MAX_GUIDANCE}
            step={0.1}
            decimalScale={2}
            disabled={isOwn}
            error={errors.guidance}
          />
        )}
        {isShown(abilities, "clip_skip", form.clipSkip) && (
          <NumberField
            label={t("sampling.clipSkip")}
            placeholder={placeholder(isOwn ? undefined : preset?.clip_skip) || t("sampling.fromFamily")}
            value={form.clipSkip}
            onValue={(clipSkip) => set({ clipSkip })}
            min={1}
            max={MAX_CLIP_SKIP}
            allowDecimal={false}
            error={errors.clipSkip}
          />
        )}
        <Select
          label={t("sampling.sampler")}
          placeholder={t("sampling.fromPreset")}
          data={[...samplers]}
          value={form.sampler}
          onChange={(sampler) => set({ sampler })}
          clearable
          searchable
          disabled={isOwn || samplers.length === 0}
          error={errors.sampler}
        />
        <Select
          label={t("sampling.schedule")}
          placeholder={t("sampling.fromPreset")}
          data={[...schedules]}
          value={form.schedule}
          onChange={(schedule) => set({ schedule })}
          clearable
          searchable
          disabled={isOwn || schedules.length === 0}
          error={errors.schedule}
        />
        <NumberField
          label={t("sampling.shift")}
          placeholder={placeholder(first?.shift ?? undefined)}
          value={form.shift}
          onValue={(shift) => set({ shift: shift || null })}
          min={0.1}
          max={100}
          step={0.5}
          disabled={isOwn}
          error={errors.shift}
        />
      </div>
      {cannotGuide && <p className={classes.note}>{t("cannot.guidance")}</p>}
    </Field>
  );
}

const placeholder = (value: number | undefined) => (value === undefined ? "" : String(value));
