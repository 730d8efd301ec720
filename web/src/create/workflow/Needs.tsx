import { Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import * as catalog from "@/api/catalog";
import type { Missing } from "@/api/workflows";
import { type Chosen, keyOf } from "./choosing";
import { PictureSlot } from "./PictureSlot";
import type { Lora } from "./recognise";
import classes from "./workflow.module.css";

const WITHOUT = "\0without";

/** Names that are not known here, each with a choice of those that are, and the pictures that nodes load. */
export function Needs(props: {
  missing: readonly Missing[];
  chosen: Chosen;
  loras: readonly Lora[];
  model: string | null | undefined;
  sending: readonly string[];
  onChange: (changed: Partial<Chosen>) => void;
  onPicture: (node: string, file: File) => Promise<void>;
}) {
  const { missing, chosen, loras, sending, onChange, onPicture } = props;
  const { t } = useTranslation("workflow");
  const { data: models } = useQuery(catalog.models);
  const checkpoint = missing.find(({ kind }) => kind === "model");
  const model = props.model ?? (checkpoint && chosen.names[checkpoint.name]);
  const { data: adapters } = useQuery(catalog.adapters(model ?? null));

  const optionsOf = ({ kind, name, near }: Missing) => {
    const known =
      kind === "model"
        ? (models?.models ?? []).map((one) => ({ name: one.name, isOff: one.problem !== "" }))
        : (adapters ?? []).map((one) => ({ name: one.name, isOff: one.fit?.status === "skipped" }));
    const others = near.filter((one) => !known.some((other) => other.name === one));
    const options = [...others.map((one) => ({ name: one, isOff: false })), ...known].map((one) => ({
      value: one.name,
      label: one.isOff && kind === "adapter" ? t("needs.unfit", { name: one.name }) : one.name,
      disabled: one.isOff,
    }));
    const canLeave = kind === "adapter" && loras.some(({ file }) => file === name);
    return canLeave ? [{ value: WITHOUT, label: t("needs.without"), disabled: false }, ...options] : options;
  };
  const choose = (name: string, value: string | null) => {
    const { [name]: _, ...names } = chosen.names;
    const left = chosen.left.filter((other) => other !== name);
    if (value === WITHOUT) onChange({ names, left: [...left, name] });
    else onChange({ names: value === null ? names : { ...names, [name]: value }, left });
  };

  return (
    <section className={classes.part}>
      <h3>{t("needs.title")}</h3>
      {missing.map((one) => {
        const { kind, name, node } = one;
        if (kind === "picture")
          return (
            <PictureSlot
              key={keyOf(one)}
              label={t("needs.picture", { node, name })}
              picture={chosen.pictures[node]}
              isSending={sending.includes(node)}
              onFile={(file) => onPicture(node, file)}
            />
          );
        const options = optionsOf(one);
        return (
          <Select
            key={keyOf(one)}
            label={t(kind === "model" ? "needs.model" : "needs.adapter", { name })}
            classNames={{ label: classes.label ?? "" }}
            placeholder={t(options.length > 0 ? "needs.choose" : "needs.none")}
            data={options}
            value={chosen.left.includes(name) ? WITHOUT : (chosen.names[name] ?? null)}
            onChange={(value) => choose(name, value)}
            searchable={options.length > 7}
            maxDropdownHeight={260}
          />
        );
      })}
    </section>
  );
}
