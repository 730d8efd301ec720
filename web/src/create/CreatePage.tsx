/** Where pictures are asked for and seen: the form at the left and the results, or one below the other on a phone. */

import { ActionIcon, Tooltip } from "@mantine/core";
import { useHotkeys, useLocalStorage, useMediaQuery } from "@mantine/hooks";
import { IconLayoutSidebarLeftExpand } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import classes from "./CreatePage.module.css";
import { FormPanel } from "./FormPanel";
import { NarrowPage } from "./NarrowPage";
import { Results } from "./results/Results";
import { PaintContext, usePaint } from "./usePaint";

const isDialogOpen = () => document.querySelector('[aria-modal="true"]') !== null;

export function CreatePage() {
  const { t } = useTranslation("create");
  const painting = usePaint();
  const isNarrow = useMediaQuery("(max-width: 56em)", undefined, { getInitialValueInEffect: false });
  const [isCollapsed, setCollapsed] = useLocalStorage({ key: "limner-form-collapsed", defaultValue: false });
  useHotkeys([["mod+Enter", () => !isDialogOpen() && painting.paint()]], []);
  useHotkeys([["shift+X", () => !isDialogOpen() && painting.cancelNewest()]]);

  return (
    <PaintContext value={painting}>
      {isNarrow ? (
        <NarrowPage />
      ) : (
        <div className={classes.wide}>
          {isCollapsed ? (
            <div className={classes.strip}>
              <Tooltip label={t("panel.show")} position="right">
                <ActionIcon size="lg" onClick={() => setCollapsed(false)} aria-label={t("panel.show")}>
                  <IconLayoutSidebarLeftExpand size={22} stroke={1.6} />
                </ActionIcon>
              </Tooltip>
              <h1 className="hidden">{t("title")}</h1>
            </div>
          ) : (
            <FormPanel onCollapse={() => setCollapsed(true)} />
          )}
          <section className={classes.results} aria-label={t("panel.results")}>
            <Results />
          </section>
        </div>
      )}
    </PaintContext>
  );
}
