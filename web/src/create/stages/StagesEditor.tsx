import { Button } from "@mantine/core";
import { IconPlus, IconRestore } from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Stage } from "@/api/catalog";
import { Field } from "../fields/Field";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { StageCard } from "./StageCard";
import { added, changed, givenBack, moved, owned, removed } from "./stages";
import classes from "./stages.module.css";

/** The plan as cards, one a stage. Changing any of them makes the plan one's own. */
export function StagesEditor() {
  const { t } = useTranslation("create");
  const choices = useChoices();
  const { form, stages, limits, preset } = choices;
  const [open, setOpen] = useState<number | null>(null);
  const error = useFieldError("stages");
  const { set } = useForm.getState();
  const isOwn = form.stages !== null;
  const use = (next: Stage[]) => set(owned(next, choices));
  return (
    <Field
      title={t("stages.title")}
      hint={t("stages.hint")}
      error={error}
      aside={isOwn ? t("stages.own") : t("stages.preset")}
    >
      <ol className={classes.list}>
        {stages.map((stage, index) => (
          <StageCard
            // biome-ignore lint/suspicious/noArrayIndexKey: a stage is what stands at its place
            key={index}
            stage={stage}
            index={index}
            count={stages.length}
            isOpen={open === index}
            onToggle={() => setOpen(open === index ? null : index)}
            onChange={(changes) => use(changed(stages, index, changes))}
            onRemove={() => use(removed(stages, index))}
            onMove={(to) => {
              use(moved(stages, index, to));
              setOpen((was) => (was === index ? to : was));
            }}
          />
        ))}
      </ol>
      <div className={classes.actions}>
        <Button
          variant="default"
          size="xs"
          leftSection={<IconPlus size={15} aria-hidden />}
          disabled={stages.length === 0 || stages.length >= limits.max_stages}
          onClick={() => {
            use(added(stages));
            setOpen(stages.length);
          }}
        >
          {t("stages.add")}
        </Button>
        {isOwn && (
          <Button
            variant="subtle"
            size="xs"
            leftSection={<IconRestore size={15} aria-hidden />}
            onClick={() => set(givenBack(form, preset))}
          >
            {t("stages.back")}
          </Button>
        )}
      </div>
    </Field>
  );
}
