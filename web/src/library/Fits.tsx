/** How far a LoRA fits each checkpoint: a line each, and the reason where it does not fit in full. */

import { useTranslation } from "react-i18next";
import type { AdapterFit } from "@/api/catalog";
import classes from "./Fits.module.css";
import { fitText } from "./fitText";
import shared from "./library.module.css";

const TONES = { applied: "good", partial: "half", skipped: "bad" } as const;
const ORDER = { applied: 0, partial: 1, skipped: 2 } as const;

export function Fits({ fits }: { fits: Record<string, AdapterFit> }) {
  const { t } = useTranslation("library");
  const rows = Object.entries(fits).sort(([, a], [, b]) => ORDER[a.status] - ORDER[b.status]);
  if (rows.length === 0) return <div className={shared.facts}>{t("loras.unknown")}</div>;
  return (
    <ul className={`${shared.fits} ${classes.list}`}>
      {rows.map(([model, fit]) => (
        <li key={model}>
          <span className={shared.dot} data-tone={TONES[fit.status]} aria-hidden />
          <div>
            <strong>{model}</strong>
            <span className="quiet numbers"> · {fitText(t, fit)}</span>
            {fit.reason && <p className={classes.reason}>{fit.reason}</p>}
          </div>
        </li>
      ))}
    </ul>
  );
}
