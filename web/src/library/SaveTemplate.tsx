/** Saves what the form says now under a name. */

import { Button, Text, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { useAddTemplate } from "@/api/catalog";
import { savable } from "@/create/form";
import { useChoices } from "@/create/useChoices";
import { useTellError } from "@/parts/errors";
import classes from "./SaveTemplate.module.css";
import { facts } from "./templates";

export function SaveTemplate() {
  const { t } = useTranslation("library");
  const { t: common } = useTranslation();
  const { fitting: form } = useChoices();
  const tell = useTellError();
  const { mutate, isPending } = useAddTemplate();
  const [name, setName] = useState("");
  const request = savable(form);

  const save = (event: FormEvent) => {
    event.preventDefault();
    mutate(
      { name: name.trim(), request },
      {
        onSuccess: (template) => {
          setName("");
          notifications.show({ message: t("templates.saved", { name: template.name }) });
        },
        onError: tell,
      },
    );
  };

  return (
    <form className={`surface ${classes.form}`} onSubmit={save} aria-label={t("templates.saveTitle")}>
      <div className={classes.what}>
        <Text size="sm" c="dimmed">
          {t("templates.saveTitle")}
        </Text>
        <div className="clamp">{form.prompt || common("untitled")}</div>
        <Text size="sm" c="dimmed" className="numbers">
          {facts(t, request).join(" · ")}
        </Text>
      </div>
      <div className={classes.how}>
        <TextInput
          className={classes.name}
          size="md"
          maxLength={200}
          aria-label={t("templates.name")}
          placeholder={t("templates.nameHint")}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Button type="submit" size="md" loading={isPending} disabled={name.trim() === ""}>
          {t("templates.save")}
        </Button>
      </div>
    </form>
  );
}
