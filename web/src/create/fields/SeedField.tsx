import { ActionIcon, SegmentedControl, TextInput, Tooltip } from "@mantine/core";
import { IconDice5, IconHistory } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { useForm } from "../form";
import { diced, isSeed, tidySeed } from "../seeds";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";

/** A new picture every time, or the same again: by a number, by the last one's, or by a throw of the dice. */
export function SeedField() {
  const { t } = useTranslation("create");
  const seed = useForm((state) => state.form.seed);
  const lastSeed = useForm((state) => state.lastSeed);
  const { set } = useForm.getState();
  const error = useFieldError("seed");
  const isFixed = seed !== null;
  return (
    <Field title={t("seed.title")} hint={t("seed.hint")}>
      <SegmentedControl
        fullWidth
        aria-label={t("seed.title")}
        value={isFixed ? "fixed" : "random"}
        onChange={(value) => set({ seed: value === "random" ? null : (lastSeed ?? diced()) })}
        data={[
          { value: "random", label: t("seed.random") },
          { value: "fixed", label: t("seed.fixed") },
        ]}
      />
      {isFixed && (
        <TextInput
          aria-label={t("seed.number")}
          inputMode="numeric"
          className="numbers"
          value={seed}
          onChange={(event) => set({ seed: tidySeed(event.currentTarget.value) })}
          error={error ?? (isSeed(seed) ? undefined : t("seed.invalid"))}
          rightSectionWidth={76}
          rightSection={
            <>
              <Tooltip label={lastSeed ? t("seed.recall", { seed: lastSeed }) : t("seed.noRecall")}>
                <ActionIcon
                  aria-label={t("seed.recallShort")}
                  data-disabled={!lastSeed || undefined}
                  aria-disabled={!lastSeed}
                  onClick={() => lastSeed && set({ seed: lastSeed })}
                >
                  <IconHistory size={18} stroke={1.6} />
                </ActionIcon>
              </Tooltip>
              <Tooltip label={t("seed.dice")}>
                <ActionIcon aria-label={t("seed.dice")} onClick={() => set({ seed: diced() })}>
                  <IconDice5 size={18} stroke={1.6} />
                </ActionIcon>
              </Tooltip>
            </>
          }
        />
      )}
      {!isFixed && lastSeed && (
        <button type="button" className={classes.link} onClick={() => set({ seed: lastSeed })}>
          {t("seed.recall", { seed: lastSeed })}
        </button>
      )}
    </Field>
  );
}
