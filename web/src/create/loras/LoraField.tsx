import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { adapters } from "@/api/catalog";
import { Field } from "../fields/Field";
import fields from "../fields/fields.module.css";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { LoraChip } from "./LoraChip";
import { LoraPicker } from "./LoraPicker";
import classes from "./loras.module.css";

/** The chosen LoRAs as chips with their weights, and the way to more of them. */
export function LoraField() {
  const { t } = useTranslation("create");
  const chosen = useForm((state) => state.form.adapters);
  const { abilities } = useChoices();
  const [isOpen, setOpen] = useState(false);
  const error = useFieldError("adapters");
  const { data: known } = useQuery(
    adapters(abilities.backend === "native" ? (abilities.model ?? null) : null),
  );
  const cannot = abilities.cannot("adapters");
  return (
    <Field title={t("lora.title")} hint={t("lora.hint")} error={error}>
      <div className={classes.chips}>
        {chosen.map((choice) => (
          <LoraChip
            key={choice.name}
            choice={choice}
            adapter={known?.find(({ name }) => name === choice.name)}
            isGone={known !== undefined && !known.some(({ name }) => name === choice.name)}
            cannot={cannot}
          />
        ))}
        <Button
          variant="default"
          radius="xl"
          size="sm"
          leftSection={<IconPlus size={16} stroke={1.8} aria-hidden />}
          onClick={() => setOpen(true)}
          disabled={cannot}
        >
          {t("lora.add")}
        </Button>
      </div>
      {cannot && <p className={fields.note}>{t("cannot.adapters")}</p>}
      <LoraPicker isOpen={isOpen} onClose={() => setOpen(false)} />
    </Field>
  );
}
