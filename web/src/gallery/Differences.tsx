import { Switch, Title } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { ImageDetail } from "@/api/images";
import classes from "./Compare.module.css";
import { differences, type FactName, factsOf, isWay } from "./facts";
import { localeOf } from "./locale";

/** What differs between how two pictures were made; all of it on demand. */
export function Differences({ left, right }: { left: ImageDetail; right: ImageDetail }) {
  const { t, i18n } = useTranslation("gallery");
  const [every, setEvery] = useState(false);
  const found = differences(factsOf(left, localeOf(i18n.language)), factsOf(right, localeOf(i18n.language)));
  // Every file has a hash of its own, which says nothing.
  const telling = found.filter(({ differs, name }) => differs && name !== "fileHash" && name !== "fileSize");
  const rows = every ? found : telling;
  const words = (name: FactName, value: string) =>
    (name === "referencesAs" && isWay(value) ? t(`referencesAs.${value}`) : value) || "–";
  return (
    <section className={classes.table}>
      <div className={classes.tableHead}>
        <Title order={2}>{t("compare.differences")}</Title>
        <Switch
          label={t("compare.every")}
          checked={every}
          onChange={(event) => setEvery(event.currentTarget.checked)}
        />
      </div>
      {rows.length === 0 ? (
        <p className="quiet">{t("compare.same")}</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">
                <span className="quiet">{t("compare.what")}</span>
              </th>
              <th scope="col">A</th>
              <th scope="col">B</th>
            </tr>
          </thead>
          <tbody className="numbers">
            {rows.map(({ name, left: one, right: other, differs }) => (
              <tr key={name} data-same={(every && !differs) || undefined}>
                <th scope="row">{t(`fact.${name}`)}</th>
                <td>{words(name, one)}</td>
                <td>{words(name, other)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
