import { ActionIcon, Tooltip } from "@mantine/core";
import { IconLayoutSidebarLeftCollapse } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { Advanced } from "./Advanced";
import classes from "./CreatePage.module.css";
import { FormMenu } from "./FormMenu";
import { PromptField } from "./fields/PromptField";
import { Paint } from "./Paint";
import { Simple } from "./Simple";

/** The form as a column of its own beside the results; its Paint button is always in sight. */
export function FormPanel({ onCollapse }: { onCollapse: () => void }) {
  const { t } = useTranslation("create");
  return (
    <section className={classes.panel} aria-label={t("panel.form")}>
      <header className={classes.head}>
        <h1>{t("title")}</h1>
        <FormMenu />
        <Tooltip label={t("panel.hide")}>
          <ActionIcon size="lg" onClick={onCollapse} aria-label={t("panel.hide")}>
            <IconLayoutSidebarLeftCollapse size={20} stroke={1.6} />
          </ActionIcon>
        </Tooltip>
      </header>
      <div className={classes.fields}>
        <PromptField />
        <Simple />
        <Advanced />
      </div>
      <footer className={classes.foot}>
        <Paint hasHints />
      </footer>
    </section>
  );
}
