import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import type { Preset } from "@/api/catalog";

/** Presets that came with limner: they have names in every language, and a picture each. */
export const PICTURED = ["progressive", "single", "sketch"] as const;
type Pictured = (typeof PICTURED)[number];

export const isPictured = (preset: Preset): preset is Preset & { name: Pictured } =>
  preset.shipped && PICTURED.some((name) => name === preset.name);

/** What a preset is called on the page. */
export function usePresetName(): (preset: Preset) => string {
  const { t } = useTranslation("create");
  return useCallback((preset) => (isPictured(preset) ? t(`preset.${preset.name}.name`) : preset.name), [t]);
}
