/** What there is to choose from now, and what the form means with it: one hook for every field. */

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import * as catalog from "@/api/catalog";
import { abilitiesOf } from "./abilities";
import { useForm } from "./form";
import { finishedSize, type SizeLimits } from "./shapes";
import { plannedStages } from "./stages/stages";

const COUNT = 64;
const FALLBACK = {
  min_side: 64,
  max_side: 4096,
  size_multiple: 16,
  max_steps: 200,
  max_cfg: 30,
  max_count: COUNT,
};

export function useChoices() {
  const form = useForm((state) => state.form);
  const backends = useQuery(catalog.backends).data;
  const models = useQuery(catalog.models).data;
  const presets = useQuery(catalog.presets).data;
  return useMemo(() => {
    const abilities = abilitiesOf(form, backends, models);
    const limits = { ...FALLBACK, max_stages: 8, max_prompt: 32_000, ...abilities.capabilities?.limits };
    const name = form.preset ?? presets?.default;
    const preset = presets?.presets.find((one) => one.name === name);
    const sides: SizeLimits = { min: limits.min_side, max: limits.max_side, multiple: limits.size_multiple };
    return {
      form,
      backends,
      models,
      presets,
      abilities,
      limits,
      sides,
      preset,
      stages: plannedStages(form, preset),
      size: finishedSize(form, preset),
    };
  }, [form, backends, models, presets]);
}

export type Choices = ReturnType<typeof useChoices>;
