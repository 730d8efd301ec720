/** Saved requests as data: what of the form is saved, and what a card tells of it. */

import type { TFunction } from "i18next";
import type { GenerationRequest } from "@/api/jobs";

/** Short facts in the order in which they matter. */
export function facts(t: TFunction<"library">, request: Partial<GenerationRequest>): string[] {
  const { model, preset, stages, aspect_ratio, width, height, adapters, count, seed, references } = request;
  const told = [
    model,
    stages ? t("templates.ownStages") : preset,
    aspect_ratio ?? (width && height ? `${width} × ${height}` : undefined),
    ...(adapters ?? []).map(({ name, weight }) => ((weight ?? 1) === 1 ? name : `${name} ${weight}`)),
    references?.length ? t("templates.reference", { count: references.length }) : undefined,
    (count ?? 1) > 1 ? t("templates.count", { count }) : undefined,
    seed === null || seed === undefined ? t("templates.seedRandom") : t("templates.seedFixed", { seed }),
  ];
  return told.filter((fact) => typeof fact === "string");
}
