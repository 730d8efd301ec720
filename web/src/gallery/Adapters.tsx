import { useTranslation } from "react-i18next";
import type { ImageDetail } from "@/api/images";
import classes from "./Panel.module.css";

/** The LoRAs of a picture, and how far each took effect. */
export function Adapters({ adapters }: { adapters: ImageDetail["adapters"] }) {
  const { t } = useTranslation("gallery");
  return (
    <section>
      <h2 className={classes.label}>{t("fact.adapters")}</h2>
      {adapters.map(({ name, requested_weight, status, matched, total, reason }) => (
        <div key={name} className={classes.adapter}>
          <strong>{name}</strong> <span className="quiet numbers">× {requested_weight}</span>
          <p className="numbers">
            {t(`adapter.${status}`, { matched, total })}
            {reason && <> {reason}</>}
          </p>
        </div>
      ))}
    </section>
  );
}
