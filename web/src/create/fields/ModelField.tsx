import { Select } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useFamily } from "@/parts/families";
import { useForm } from "../form";
import { withModel } from "../presets";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";

/** The checkpoint to paint with, whether it is in memory, and why one cannot be used. */
export function ModelField() {
  const { t } = useTranslation("create");
  const { form, abilities, models, preset } = useChoices();
  const family = useFamily();
  const error = useFieldError("model");
  const isNative = abilities.backend === "native";
  const listed = isNative
    ? (models?.models ?? [])
    : (abilities.capabilities?.models ?? []).map((name) => ({
        name,
        family: "",
        problem: "",
        loaded: false,
        loading: false,
      }));
  const chosen = listed.find(({ name }) => name === abilities.model);
  const isMissing = abilities.model !== undefined && listed.length > 0 && !chosen;
  const cannot = abilities.cannot("models");
  const state =
    !chosen || !isNative ? "" : chosen.loading ? "loading" : chosen.loaded ? "loaded" : "unloaded";
  const names = listed.map(({ name }) => name);
  return (
    <Field title={t("model.title")} error={error}>
      <Select
        aria-label={t("model.title")}
        data={(isMissing && abilities.model ? [abilities.model, ...names] : names).map((value) => ({
          value,
          label: value,
          disabled: (listed.find(({ name }) => name === value)?.problem ?? "") !== "",
        }))}
        value={abilities.model ?? null}
        onChange={(model) =>
          useForm
            .getState()
            .set(
              isNative
                ? withModel(
                    model === models?.default ? null : model,
                    form.preset ? preset : undefined,
                    models,
                  )
                : { model },
            )
        }
        disabled={cannot || listed.length === 0}
        placeholder={abilities.isWaiting ? t("model.waiting") : t("model.none")}
        allowDeselect={false}
        searchable={listed.length > 7}
        nothingFoundMessage={t("model.notFound")}
        renderOption={({ option }) => {
          const model = listed.find(({ name }) => name === option.value);
          return (
            <span className={classes.option}>
              <span>{option.label}</span>
              <small>
                {model?.problem ||
                  [family(model?.family ?? ""), model?.loaded && t("model.loaded")]
                    .filter(Boolean)
                    .join(" · ")}
              </small>
            </span>
          );
        }}
      />
      {state && (
        <p className={classes.note}>
          <span className={classes.dot} data-on={state === "loaded" || undefined} aria-hidden />
          {t(`model.${state}`)}
        </p>
      )}
      {isMissing && <p className={classes.error}>{t("model.missing", { name: abilities.model })}</p>}
      {cannot && <p className={classes.note}>{t("cannot.models")}</p>}
      {chosen?.problem && <p className={classes.error}>{chosen.problem}</p>}
    </Field>
  );
}
