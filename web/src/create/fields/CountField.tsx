import { NumberInput } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";

const QUICK = [1, 2, 4, 8];

/** How many pictures: the usual numbers at once, any other by typing or stepping. */
export function CountField() {
  const { t } = useTranslation("create");
  const { form, limits } = useChoices();
  const { set } = useForm.getState();
  const error = useFieldError("count");
  return (
    <Field title={t("count.title")} error={error}>
      <div className={classes.counts}>
        <div className={classes.quick}>
          {QUICK.map((count) => (
            <button
              key={count}
              type="button"
              aria-pressed={form.count === count}
              aria-label={t("count.of", { count })}
              disabled={count > limits.max_count}
              onClick={() => set({ count })}
            >
              {count}
            </button>
          ))}
        </div>
        <NumberInput
          className={classes.stepper}
          aria-label={t("count.title")}
          value={form.count}
          min={1}
          max={limits.max_count}
          clampBehavior="blur"
          allowDecimal={false}
          allowNegative={false}
          onChange={(value) => {
            const count = Number(value);
            if (value !== "" && count >= 1) set({ count: Math.min(count, limits.max_count) });
          }}
        />
      </div>
    </Field>
  );
}
