/** What there is to paint with, on five shelves. */

import { Title } from "@mantine/core";
import { Link, useParams } from "@tanstack/react-router";
import type { ComponentType } from "react";
import { useTranslation } from "react-i18next";
import { SHELVES, type Shelf } from "@/app/router";
import { NotFound } from "@/parts/NotFound";
import { BackendsShelf } from "./BackendsShelf";
import { LorasShelf } from "./LorasShelf";
import classes from "./library.module.css";
import { ModelsShelf } from "./ModelsShelf";
import { PresetsShelf } from "./PresetsShelf";
import { TemplatesShelf } from "./TemplatesShelf";

const CONTENTS: Record<Shelf, ComponentType> = {
  models: ModelsShelf,
  loras: LorasShelf,
  backends: BackendsShelf,
  presets: PresetsShelf,
  templates: TemplatesShelf,
};

export function LibraryPage() {
  const { t } = useTranslation("library");
  const { shelf: asked } = useParams({ from: "/library/$shelf" });
  const shelf = SHELVES.find((known) => known === asked);
  if (shelf === undefined) return <NotFound />;
  const Contents = CONTENTS[shelf];
  return (
    <div className={classes.page}>
      <header>
        <Title order={1}>{t("title")}</Title>
        <nav className={classes.shelves} aria-label={t("shelves")}>
          {SHELVES.map((name) => (
            <Link
              key={name}
              to="/library/$shelf"
              params={{ shelf: name }}
              className={classes.shelf}
              activeProps={{ "data-active": true, "aria-current": "page" }}
            >
              {t(`shelf.${name}`)}
            </Link>
          ))}
        </nav>
      </header>
      <p className={classes.about}>{t(`about.${shelf}`)}</p>
      <Contents />
    </div>
  );
}
