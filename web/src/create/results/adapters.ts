/** What became of a LoRA, in words. */

import type { TFunction } from "i18next";
import type { Job } from "@/api/jobs";

export type Outcome = Job["adapters"][number];

/** One sentence without its full stop where it was applied in full, and with one where a reason follows. */
export function adapterText(t: TFunction<"queue">, outcome: Outcome): string {
  const { name, requested_weight, status, matched, total, reason } = outcome;
  const weight = Math.round(requested_weight * 100) / 100;
  return t(`adapter.${status}`, { name, weight, matched, total }) + (reason ? "." : "");
}
