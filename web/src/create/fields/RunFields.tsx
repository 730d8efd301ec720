import { NumberInput, Radio, Select, Stack } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { type Form, useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";

/** Where it is painted, how urgently, and what happens when a LoRA does not fit. */
export function RunFields() {
  const { t } = useTranslation("create");
  const { form, backends, abilities } = useChoices();
  const { set } = useForm.getState();
  const backendError = useFieldError("backend");
  const priorityError = useFieldError("priority");
  const problem = (name: string) => backends?.capabilities[name]?.problem ?? "";
  const choose = (backend: string | null) =>
    set({ backend: backend === backends?.default ? null : backend, model: null });
  return (
    <Field title={t("run.title")}>
      <div className={classes.pair}>
        <Select
          label={t("run.backend")}
          data={(backends?.backends ?? []).map((value) => ({
            value,
            label: value,
            disabled: problem(value) !== "",
          }))}
          value={abilities.backend ?? null}
          onChange={choose}
          allowDeselect={false}
          disabled={!backends}
          error={backendError}
          renderOption={({ option }) => (
            <span className={classes.option}>
              <span>{option.label}</span>
              <small>{problem(option.value)}</small>
            </span>
          )}
        />
        <NumberInput
          label={t("run.priority")}
          value={form.priority}
          min={-100}
          max={100}
          clampBehavior="blur"
          allowDecimal={false}
          onChange={(value) => set({ priority: Number(value) || 0 })}
          error={priorityError}
        />
      </div>
      <p className={classes.note}>{t("run.priorityHint")}</p>
      <Radio.Group
        label={t("run.mismatch")}
        value={form.onAdapterMismatch}
        onChange={(value) => set({ onAdapterMismatch: value as Form["onAdapterMismatch"] })}
      >
        <Stack gap={8} mt={8}>
          <Radio value="degrade" label={t("run.degrade")} />
          <Radio value="fail" label={t("run.fail")} />
        </Stack>
      </Radio.Group>
    </Field>
  );
}
