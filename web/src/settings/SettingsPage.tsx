/** Language, colours, notifications, what this browser remembers, and what this is. */

import { Button, SegmentedControl, Title, useMantineColorScheme } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { health } from "@/api/catalog";
import { useForm } from "@/create/form";
import { LANGUAGES, type Language, speak } from "@/i18n";
import { useErrorText } from "@/parts/errors";
import { Notify } from "./Notify";
import { Row } from "./Row";
import classes from "./SettingsPage.module.css";

export function SettingsPage() {
  const { t } = useTranslation("settings");
  return (
    <div className={classes.page}>
      <Title order={1}>{t("title")}</Title>
      <section className={`surface ${classes.group}`} aria-label={t("groups.page")}>
        <LanguageRow />
        <ColoursRow />
        <Notify />
      </section>
      <section aria-labelledby="kept" className={classes.section}>
        <Title order={2} id="kept">
          {t("groups.kept")}
        </Title>
        <div className={`surface ${classes.group}`}>
          <FormRows />
        </div>
      </section>
      <section aria-labelledby="about" className={classes.section}>
        <Title order={2} id="about">
          {t("groups.about")}
        </Title>
        <div className={`surface ${classes.group}`}>
          <About />
        </div>
      </section>
    </div>
  );
}

function LanguageRow() {
  const { t, i18n } = useTranslation("settings");
  return (
    <Row id="language" label={t("language.label")} hint={t("language.hint")}>
      <SegmentedControl
        aria-labelledby="language"
        size="md"
        value={i18n.language}
        onChange={(language) => void speak(language as Language)}
        data={Object.entries(LANGUAGES).map(([value, label]) => ({ value, label }))}
      />
    </Row>
  );
}

function ColoursRow() {
  const { t } = useTranslation("settings");
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Row id="colours" label={t("colours.label")} hint={t("colours.hint")}>
      <SegmentedControl
        aria-labelledby="colours"
        size="md"
        value={colorScheme}
        onChange={(scheme) => setColorScheme(scheme as typeof colorScheme)}
        data={(["light", "dark", "auto"] as const).map((value) => ({ value, label: t(`colours.${value}`) }))}
      />
    </Row>
  );
}

function FormRows() {
  const { t } = useTranslation("settings");
  const prompts = useForm((store) => store.history.length);
  const reset = useForm((store) => store.reset);
  const forget = () => {
    const { history } = useForm.getState();
    useForm.setState({ history: [] });
    undoable(t("history.cleared"), () => useForm.setState({ history }));
  };
  const clear = () => {
    const { form } = useForm.getState();
    reset();
    undoable(t("form.cleared"), () => useForm.setState({ form }));
  };
  const undoable = (message: string, undo: () => void) => {
    const id = notifications.show({
      autoClose: 8_000,
      message: (
        <div className={classes.undo}>
          {message}
          <Button
            size="compact-sm"
            variant="light"
            onClick={() => {
              undo();
              notifications.hide(id);
            }}
          >
            {t("undo")}
          </Button>
        </div>
      ),
    });
  };
  return (
    <>
      <Row
        id="history"
        label={t("history.label")}
        hint={prompts ? t("history.hint", { count: prompts }) : t("history.none")}
      >
        <Button variant="default" onClick={forget} disabled={prompts === 0}>
          {t("history.clear")}
        </Button>
      </Row>
      <Row id="form" label={t("form.label")} hint={t("form.hint")}>
        <Button variant="default" onClick={clear}>
          {t("form.clear")}
        </Button>
      </Row>
    </>
  );
}

function About() {
  const { t } = useTranslation("settings");
  const { data, error } = useQuery(health);
  const words = useErrorText();
  return (
    <>
      <Row id="version" label={t("about.version")}>
        <span className="numbers">{data?.version ?? (error ? words(error).text : "")}</span>
      </Row>
      <Row id="licence" label={t("about.licence")} hint={t("about.licenceHint")}>
        <a href="https://www.apache.org/licenses/LICENSE-2.0" target="_blank" rel="noreferrer">
          Apache-2.0
        </a>
      </Row>
    </>
  );
}
