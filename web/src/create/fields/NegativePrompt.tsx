import { Textarea } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { isNegativeIdle } from "../abilities";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";

/** What to keep out, else the preset's own, which is seen as the placeholder; says so where it has no effect. */
export function NegativePrompt() {
  const { t } = useTranslation("create");
  const { form, abilities, stages, preset } = useChoices();
  const error = useFieldError("negativePrompt", "negative_prompt");
  const cannot = abilities.cannot("negative");
  return (
    <Field title={t("negative.title")} error={error}>
      <Textarea
        aria-label={t("negative.title")}
        placeholder={(!form.stages && preset?.negative_prompt) || t("negative.placeholder")}
        value={form.negativePrompt}
        onChange={(event) => useForm.getState().set({ negativePrompt: event.currentTarget.value })}
        autosize
        minRows={1}
        maxRows={6}
        disabled={cannot}
      />
      {cannot && <p className={classes.note}>{t("cannot.negative")}</p>}
      {!cannot && !form.stages && preset?.negative_prompt && form.negativePrompt === "" && (
        <p className={classes.note}>{t("negative.preset")}</p>
      )}
      {!cannot && form.negativePrompt !== "" && isNegativeIdle(stages) && (
        <p className={classes.note}>{t("negative.idle")}</p>
      )}
    </Field>
  );
}
