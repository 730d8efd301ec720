import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import type { Preset } from "@/api/catalog";

/** Presets that came with limner and have a picture each. */
export const PICTURED = ["progressive", "single", "sketch"] as const;
/** Those that came with it: they have names in every language. */
export const SHIPPED = [
  ...PICTURED,
  "anime",
  "sdxl",
  "sd15",
  "flux-portrait",
  "kontext-edit",
  "generic",
] as const;

type Named<T extends string> = Preset & { name: T };

export const isPictured = (preset: Preset): preset is Named<(typeof PICTURED)[number]> =>
  preset.shipped && PICTURED.some((name) => name === preset.name);

const isShipped = (preset: Preset): preset is Named<(typeof SHIPPED)[number]> =>
  preset.shipped && SHIPPED.some((name) => name === preset.name);

/** What a preset is called on the page. */
export function usePresetName(): (preset: Preset) => string {
  const { t } = useTranslation("create");
  return useCallback((preset) => (isShipped(preset) ? t(`preset.${preset.name}.name`) : preset.name), [t]);
}

/** What it is called, and what it is for. */
export function usePresetWords(preset: Preset): { name: string; explained: string } {
  const { t } = useTranslation("create");
  const explained = isShipped(preset) ? t(`preset.${preset.name}.explained`) : (preset.description ?? "");
  return { name: usePresetName()(preset), explained };
}
