/** What became of one LoRA: applied, in part, or left out, with the reason. */

import { useTranslation } from "react-i18next";
import type { Outcome } from "./adapters";
import { adapterText } from "./adapters";

export function AdapterLine({ outcome }: { outcome: Outcome }) {
  const { t } = useTranslation("queue");
  return (
    <li data-kind={outcome.status}>
      {adapterText(t, outcome)}
      {outcome.reason && <span className="quiet"> {outcome.reason}</span>}
    </li>
  );
}
