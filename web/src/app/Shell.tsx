/** The frame around every page: navigation, the queue from everywhere, the state of the connection, drops. */

import { Indicator, UnstyledButton } from "@mantine/core";
import { useDocumentTitle } from "@mantine/hooks";
import {
  IconBooks,
  IconHelpCircle,
  IconLayoutGrid,
  IconPalette,
  IconSettings,
  IconStack2,
} from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { Suspense, useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import { activeJobs } from "@/api/jobs";
import { RecipeDrop } from "@/create/RecipeDrop";
import { ShortcutsDialog } from "@/help/ShortcutsDialog";
import { Loading } from "@/parts/Loading";
import { useQueueDrawer } from "@/queue/drawer";
import { QueueDrawer } from "@/queue/QueueDrawer";
import { useUnseen } from "@/queue/unseen";
import { ConnectionNotice } from "./ConnectionNotice";
import classes from "./Shell.module.css";
import { usePageKeys } from "./usePageKeys";

const PAGES = [
  { to: "/", name: "create", icon: IconPalette },
  { to: "/gallery", name: "gallery", icon: IconLayoutGrid },
  { to: "/library/$shelf", params: { shelf: "models" }, name: "library", icon: IconBooks },
  { to: "/help", name: "help", icon: IconHelpCircle },
  { to: "/settings", name: "settings", icon: IconSettings },
] as const;
const QUEUE = { to: "/queue", name: "queue" } as const;

export function Shell() {
  const { t } = useTranslation();
  const { data: active } = useQuery(activeJobs);
  const running = active?.length ?? 0;
  const { toggle } = useQueueDrawer();
  const place = useLocation({ select: ({ pathname }) => pathname.split("/")[1] ?? "" });
  const page = [...PAGES, QUEUE].find(({ to }) => to.split("/")[1] === place);
  const title = page ? `${t(`nav.${page.name}`)} · limner` : "limner";
  const isUnseen = useUnseen((state) => state.isUnseen);
  useDocumentTitle(`${isUnseen ? "✓ " : ""}${running ? `(${running}) ` : ""}${title}`);
  usePageKeys();
  const content = useFocusOfPage(place);

  return (
    <div className={classes.frame}>
      <a className={classes.skip} href="#content">
        {t("nav.skip")}
      </a>
      <nav className={classes.rail} aria-label={t("nav.label")}>
        <Link to="/" className={classes.brand} aria-label="limner">
          <img src="/favicon.svg" alt="" width={32} height={32} />
        </Link>
        {PAGES.map(({ name, icon: Icon, ...page }) => (
          <Link
            key={name}
            {...page}
            className={classes.item}
            activeProps={{}}
            {...(page.to.split("/")[1] === place
              ? { "data-active": true, "aria-current": "page" as const }
              : {})}
          >
            <Icon size={22} stroke={1.6} aria-hidden />
            <span>{t(`nav.${name}`)}</span>
          </Link>
        ))}
        <UnstyledButton
          className={classes.item}
          onClick={toggle}
          data-queue
          data-active={place === "queue" || undefined}
        >
          <Indicator
            label={running}
            disabled={running === 0}
            size={17}
            processing={running > 0}
            aria-hidden
            offset={2}
          >
            <IconStack2 size={22} stroke={1.6} aria-hidden />
          </Indicator>
          <span>
            {t("nav.queue")}
            {running > 0 && <span className="hidden"> ({running})</span>}
          </span>
        </UnstyledButton>
      </nav>
      <div className={classes.page}>
        <ConnectionNotice />
        <main id="content" ref={content} className={classes.content} tabIndex={-1}>
          <Suspense fallback={<Loading />}>
            <Outlet />
          </Suspense>
        </main>
      </div>
      <QueueDrawer />
      <RecipeDrop />
      <ShortcutsDialog />
    </div>
  );
}

/** Moves the focus to the new page, so that keyboards and screen readers go on there; the first page is left alone. */
function useFocusOfPage(place: string) {
  const content = useRef<HTMLElement>(null);
  const before = useRef(place);
  useEffect(() => {
    if (before.current !== place && !content.current?.contains(document.activeElement))
      content.current?.focus({ preventScroll: true });
    before.current = place;
  }, [place]);
  return content;
}
