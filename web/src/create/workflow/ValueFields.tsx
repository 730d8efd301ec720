import { ActionIcon, Textarea, TextInput, Tooltip } from "@mantine/core";
import { IconDice5 } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Explained } from "@/api/workflows";
import { NumberField } from "../fields/NumberField";
import { diced, isSeed, tidySeed } from "../seeds";
import { useChoices } from "../useChoices";
import { isGuided, type Values } from "./choosing";
import classes from "./workflow.module.css";

/** The few values of a workflow that people change; what is left empty stays as the workflow says. */
export function ValueFields(props: {
  values: Partial<Values>;
  stages: number;
  request: Explained["request"];
  onChange: (changed: Partial<Values>) => void;
}) {
  const { values, stages, request, onChange } = props;
  const { t } = useTranslation(["workflow", "create"]);
  const { limits } = useChoices();
  const seed = values.seed ?? "";
  return (
    <section className={classes.part}>
      <h3>{t("values.title")}</h3>
      <Textarea
        label={t("create:prompt.label")}
        placeholder={t("values.own")}
        autosize
        minRows={2}
        maxRows={8}
        maxLength={limits.max_prompt}
        value={values.prompt ?? ""}
        onChange={(event) => onChange({ prompt: event.currentTarget.value })}
      />
      <Textarea
        label={t("create:negative.title")}
        description={isGuided(request) ? undefined : t("values.idle")}
        placeholder={request ? "" : t("values.own")}
        autosize
        minRows={1}
        maxRows={5}
        maxLength={limits.max_prompt}
        value={values.negative_prompt ?? ""}
        onChange={(event) => onChange({ negative_prompt: event.currentTarget.value })}
      />
      <div className={classes.numbers}>
        <TextInput
          className="numbers"
          label={t("create:seed.title")}
          placeholder={t("values.own")}
          inputMode="numeric"
          value={seed}
          onChange={(event) => onChange({ seed: tidySeed(event.currentTarget.value) })}
          error={seed && !isSeed(seed) ? t("create:seed.invalid") : undefined}
          rightSection={
            <Tooltip label={t("create:seed.dice")}>
              <ActionIcon aria-label={t("create:seed.dice")} onClick={() => onChange({ seed: diced() })}>
                <IconDice5 size={18} stroke={1.6} />
              </ActionIcon>
            </Tooltip>
          }
        />
        <NumberField
          label={t(stages > 1 ? "values.firstSteps" : "create:sampling.steps")}
          placeholder={t("values.own")}
          allowDecimal={false}
          min={1}
          max={limits.max_steps}
          value={values.steps}
          onValue={(steps) => onChange({ steps })}
        />
        <NumberField
          label={t("create:count.title")}
          placeholder={t("values.own")}
          allowDecimal={false}
          min={1}
          max={limits.max_count}
          value={values.count}
          onValue={(count) => onChange({ count })}
        />
      </div>
    </section>
  );
}
