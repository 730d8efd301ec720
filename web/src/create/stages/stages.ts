/** The plan of a picture as a list of stages: what the form makes of the preset's, and how it is edited. Pure. */

import type { Preset, Stage } from "@/api/catalog";
import type { Choices } from "../choices";
import type { Form } from "../form";
import { finishedSize, type Size, snapped } from "../shapes";

const LIMITS = { min: 64, max: 4096, multiple: 16 };
const REFINING = 0.6;

/** The stages that the server would make of the form; empty while the preset is not known. */
export function plannedStages(form: Form, preset: Preset | undefined): Stage[] {
  if (form.stages) return form.stages;
  const stages = preset?.stages ?? [];
  const size = finishedSize(form, preset);
  if (!size || !stages.length) return [];
  return resized(stages, size).map((stage, index) => ({
    ...stage,
    ...present({
      guidance: form.guidance,
      sampler: form.sampler,
      schedule: form.schedule,
      shift: form.shift,
      cache: form.cache,
    }),
    ...(index === 0 ? present({ steps: form.steps, cfg: form.cfg }) : {}),
  }));
}

/** The changes that make stages one's own: what else the preset says comes along, since it is not asked any more. */
export function owned(
  stages: Stage[],
  { form, preset, abilities: { known }, models }: Pick<Choices, "form" | "preset" | "abilities" | "models">,
): Partial<Form> {
  if (form.stages) return { stages };
  return {
    stages,
    negativePrompt: form.negativePrompt || (preset?.negative_prompt ?? ""),
    clipSkip: form.clipSkip ?? preset?.clip_skip ?? null,
    referencesAs: form.referencesAs ?? preset?.references_as ?? null,
    model: form.model ?? (known && known.name !== models?.default ? known.name : null),
  };
}

/** The changes that give stages back to the preset, with what came along from it. */
export function givenBack(form: Form, preset: Preset | undefined): Partial<Form> {
  return {
    stages: null,
    ...(form.negativePrompt === preset?.negative_prompt ? { negativePrompt: "" } : {}),
    ...(form.clipSkip === preset?.clip_skip ? { clipSkip: null } : {}),
    ...(form.referencesAs === preset?.references_as ? { referencesAs: null } : {}),
  };
}

/** The stages with the last one at this size, and the others in the same proportion to it as before. */
export function resized(stages: readonly Stage[], { width, height }: Size): Stage[] {
  const last = stages.at(-1);
  if (!last) return [];
  return stages.map((stage) => ({
    ...stage,
    width: snapped((stage.width * width) / last.width, LIMITS),
    height: snapped((stage.height * height) / last.height, LIMITS),
  }));
}

export function changed(stages: readonly Stage[], index: number, changes: Partial<Stage>): Stage[] {
  return stages.map((stage, at) => (at === index ? { ...stage, ...changes } : stage));
}

/** With one more at the end, half as large again as the last and refining what that one made. */
export function added(stages: readonly Stage[]): Stage[] {
  const last = stages.at(-1);
  if (!last) return [...stages];
  const size = { width: snapped(last.width * 1.5, LIMITS), height: snapped(last.height * 1.5, LIMITS) };
  return [...stages, { ...last, ...size, denoise: REFINING, noise_seed: null, stream_seed: null }];
}

export function removed(stages: readonly Stage[], index: number): Stage[] {
  return begun(stages.filter((_, at) => at !== index));
}

/** With one stage at another place. Sizes stay at their places, so that pictures still grow from stage to stage. */
export function moved(stages: readonly Stage[], from: number, to: number): Stage[] {
  const order = [...stages];
  const [stage] = order.splice(from, 1);
  if (!stage || to < 0 || to > order.length) return [...stages];
  order.splice(to, 0, stage);
  return begun(
    order.map((one, at) => {
      const place = stages[at] ?? one;
      return { ...one, width: place.width, height: place.height };
    }),
  );
}

/** The first stage begins from nothing, the others refine what is there. */
function begun(stages: Stage[]): Stage[] {
  return stages.map((stage, at) => {
    if (at === 0) return { ...stage, denoise: 1 };
    return stage.denoise === 1 || stage.denoise === undefined ? { ...stage, denoise: REFINING } : stage;
  });
}

type Present<T> = { [K in keyof T]?: NonNullable<T[K]> };

function present<T extends object>(values: T): Present<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null)) as Present<T>;
}
