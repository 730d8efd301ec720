import { useTranslation } from "react-i18next";
import { usePresetName } from "./fields/presetNames";
import { useChoices } from "./useChoices";

/** The form's main choices in a line, such as "Progressive · 672 × 864 · 4 pictures". */
export function useSummary(): string {
  const { t } = useTranslation(["create", "common"]);
  const { form, preset, size, followsPicture } = useChoices();
  const presetName = usePresetName();
  const parts = [
    form.stages ? t("stages.own") : preset && presetName(preset),
    followsPicture ? t("shape.follows") : size && `${size.width} × ${size.height}`,
    t("common:pictures", { count: form.count }),
  ];
  return parts.filter(Boolean).join(" · ");
}
