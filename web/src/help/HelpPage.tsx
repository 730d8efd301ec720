/** First steps, keys, examples in several languages, and where more is told. */

import { Text, Title } from "@mantine/core";
import { IconApi, IconChartLine, IconExternalLink } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { health } from "@/api/catalog";
import { Examples } from "./Examples";
import { FirstSteps } from "./FirstSteps";
import classes from "./HelpPage.module.css";
import { ShortcutsTable } from "./ShortcutsTable";

const LINKS = [
  { href: "/docs", name: "docs", Icon: IconApi },
  { href: "/metrics", name: "metrics", Icon: IconChartLine },
] as const;

export function HelpPage() {
  const { t } = useTranslation("help");
  const { data: server } = useQuery(health);
  return (
    <div className={classes.page}>
      <Title order={1}>{t("title")}</Title>
      <section aria-labelledby="steps">
        <Title order={2} id="steps">
          {t("steps.title")}
        </Title>
        <FirstSteps />
      </section>
      <section aria-labelledby="shortcuts">
        <Title order={2} id="shortcuts">
          {t("shortcuts.title")}
        </Title>
        <Text c="dimmed">{t("shortcuts.hint")}</Text>
        <ShortcutsTable order={3} />
      </section>
      <section aria-labelledby="examples">
        <Title order={2} id="examples">
          {t("examples.title")}
        </Title>
        <Text c="dimmed" maw="68ch">
          {t("examples.hint")}
        </Text>
        <Examples />
      </section>
      <section aria-labelledby="more">
        <Title order={2} id="more">
          {t("more.title")}
        </Title>
        <ul className={classes.links}>
          {LINKS.map(({ href, name, Icon }) => (
            <li key={name}>
              <a href={href} target="_blank" rel="noreferrer" className={`surface ${classes.link}`}>
                <Icon size={24} stroke={1.4} aria-hidden />
                <span>
                  <strong>{t(`more.${name}`)}</strong>
                  <span className="quiet">{t(`more.${name}Hint`)}</span>
                </span>
                <IconExternalLink size={16} className="quiet" aria-label={t("more.newTab")} />
              </a>
            </li>
          ))}
        </ul>
        {server && (
          <Text size="sm" c="dimmed" className="numbers">
            {t("more.version", { version: server.version })}
          </Text>
        )}
      </section>
    </div>
  );
}
