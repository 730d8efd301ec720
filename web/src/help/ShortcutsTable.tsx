/** The keys, grouped by where they work. */

import { Kbd, Title } from "@mantine/core";
import { Fragment } from "react";
import { useTranslation } from "react-i18next";
import classes from "./ShortcutsTable.module.css";
import { SHORTCUTS } from "./shortcuts";

const isApple = /Mac|iPhone|iPad/.test(navigator.userAgent);
const OF_APPLE: Record<string, string> = { Ctrl: "⌘", Alt: "⌥" };

export function ShortcutsTable({ order }: { order: 2 | 3 }) {
  const { t } = useTranslation("help");
  return (
    <div className={classes.groups}>
      {SHORTCUTS.map(({ place, keys }) => (
        <section key={place}>
          <Title order={order} fz={15} className={classes.place}>
            {t(`shortcuts.places.${place}`)}
          </Title>
          <dl className={classes.keys}>
            {keys.map(({ name, combos }) => (
              <div key={name}>
                <dt>{t(`shortcuts.names.${name}`)}</dt>
                <dd>
                  {combos.map((combo, index) => (
                    // biome-ignore lint/suspicious/noArrayIndexKey: the same key may come twice
                    <Fragment key={index}>
                      {index > 0 && <span className={classes.then}>{t("shortcuts.followedBy")}</span>}
                      {combo.map((key) => (
                        <Kbd key={key}>{isApple ? (OF_APPLE[key] ?? key) : key}</Kbd>
                      ))}
                    </Fragment>
                  ))}
                </dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
    </div>
  );
}
