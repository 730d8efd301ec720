import { Collapse, UnstyledButton } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
import { IconAdjustmentsHorizontal, IconChevronRight } from "@tabler/icons-react";
import { useRef } from "react";
import { useTranslation } from "react-i18next";
import { Advanced } from "./Advanced";
import classes from "./CreatePage.module.css";
import { FormMenu } from "./FormMenu";
import { PromptField } from "./fields/PromptField";
import { Paint } from "./Paint";
import { Results } from "./results/Results";
import { Simple } from "./Simple";
import { useSummary } from "./useSummary";

/** The create page in one column: the prompt, Paint, the results, and below them everything else, folded. */
export function NarrowPage() {
  const { t } = useTranslation("create");
  const [isOpen, setOpen] = useLocalStorage({ key: "limner-settings-open", defaultValue: false });
  const rest = useRef<HTMLElement>(null);
  const summary = useSummary();
  const show = () => {
    setOpen(true);
    requestAnimationFrame(() => rest.current?.scrollIntoView({ behavior: "smooth", block: "start" }));
  };
  return (
    <div className={classes.narrow}>
      <header className={classes.head}>
        <h1>{t("title")}</h1>
        <FormMenu />
      </header>
      <div className={classes.top}>
        <PromptField />
        <Paint />
        <UnstyledButton className={classes.summary} onClick={show}>
          <IconAdjustmentsHorizontal size={18} stroke={1.6} aria-hidden />
          {summary}
        </UnstyledButton>
      </div>
      <section aria-label={t("panel.results")}>
        <Results />
      </section>
      <section className={classes.rest} ref={rest} aria-label={t("panel.form")}>
        <UnstyledButton className={classes.fold} onClick={() => setOpen(!isOpen)} aria-expanded={isOpen}>
          <IconChevronRight size={18} stroke={1.8} aria-hidden />
          {t("panel.settings")}
        </UnstyledButton>
        <Collapse expanded={isOpen}>
          <Simple />
          <Advanced />
        </Collapse>
      </section>
    </div>
  );
}
