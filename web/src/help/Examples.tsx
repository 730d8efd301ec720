/** The form as programs, with tabs and a button that copies. */

import { Button, CopyButton, Tabs, Text } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { toRequest } from "@/create/form";
import { useChoices } from "@/create/useChoices";
import { Code } from "./Code";
import classes from "./Examples.module.css";
import { curl, javascript, leftOut, openai, python, type Size } from "./snippets";

const TABS = { curl: "curl", python: "Python", openai: "OpenAI (Python)", javascript: "JavaScript" } as const;
type Tab = keyof typeof TABS;

export function Examples() {
  const { t } = useTranslation("help");
  const { t: common } = useTranslation();
  const [tab, setTab] = useState<Tab>("curl");
  const { fitting: form, preset } = useChoices();
  const isEmpty = form.prompt.trim() === "";
  const request = toRequest(isEmpty ? { ...form, prompt: t("examples.prompt") } : form);
  const server = window.location.origin;

  const size: Size | undefined =
    form.size ?? (form.aspectRatio ? preset?.sizes?.[form.aspectRatio] : undefined);
  const left = leftOut(request);
  const write: Record<Tab, () => string> = {
    curl: () => curl(server, request),
    python: () => python(server, request),
    openai: () => openai(server, request, size),
    javascript: () => javascript(server, request),
  };
  const text = write[tab]();

  return (
    <div className={`surface ${classes.examples}`}>
      <Tabs value={tab} onChange={(chosen) => setTab(chosen as Tab)} keepMounted={false}>
        <div className={classes.bar}>
          <Tabs.List className={classes.tabs} aria-label={t("examples.languages")}>
            {Object.entries(TABS).map(([name, label]) => (
              <Tabs.Tab key={name} value={name}>
                {label}
              </Tabs.Tab>
            ))}
          </Tabs.List>
          <CopyButton value={text} timeout={1600}>
            {({ copied, copy }) => (
              <Button
                variant="default"
                leftSection={copied ? <IconCheck size={16} /> : <IconCopy size={16} />}
                onClick={copy}
              >
                {common(copied ? "action.copied" : "action.copy")}
              </Button>
            )}
          </CopyButton>
        </div>
        {Object.keys(TABS).map((name) => (
          <Tabs.Panel key={name} value={name}>
            <Text size="sm" c="dimmed" className={classes.note}>
              {t(`examples.notes.${name as Tab}`)}
              {name === "openai" && left.length > 0 && (
                <> {t("examples.leftOut", { fields: left.join(", ") })}</>
              )}
            </Text>
            <Code text={text} label={TABS[name as Tab]} />
          </Tabs.Panel>
        ))}
      </Tabs>
    </div>
  );
}
