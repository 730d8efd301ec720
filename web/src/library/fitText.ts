/** How a LoRA fits a checkpoint, in words. */

import type { TFunction } from "i18next";
import type { AdapterFit } from "@/api/catalog";

/** One short sentence: fits, fits in part with how much of it, or does not fit. The reason is told beside it. */
export function fitText(t: TFunction<"library">, fit: AdapterFit): string {
  const { status, matched, total } = fit;
  return t(`loras.fit.${status}`, { matched, total });
}
