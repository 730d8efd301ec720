import { Switch } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { type Cache, useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { CacheSliders } from "./CacheSliders";
import { Field } from "./Field";
import classes from "./fields.module.css";

export const USUAL: Required<Cache> = { reuse_threshold: 0.2, start_percent: 0.15, end_percent: 0.95 };

/** EasyCache for every stage; switched off here, stages keep what the preset gives them. */
export function CacheFields() {
  const { t } = useTranslation("create");
  const { form, preset } = useChoices();
  const error = useFieldError("cache");
  const { set } = useForm.getState();
  const isOwn = form.stages !== null;
  const hasPresets = preset?.stages?.some((stage) => stage.cache) ?? false;
  return (
    <Field title={t("cache.title")} error={error}>
      <Switch
        label={t("cache.switch")}
        checked={form.cache !== null}
        onChange={(event) => set({ cache: event.currentTarget.checked ? USUAL : null })}
        disabled={isOwn}
      />
      <p className={classes.note}>
        {t("cache.explained")} {!form.cache && hasPresets && t("cache.preset")}
      </p>
      {form.cache && !isOwn && <CacheSliders cache={form.cache} onChange={(cache) => set({ cache })} />}
    </Field>
  );
}
