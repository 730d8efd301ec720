/**
 * What a form means with what there is to choose from: its preset, checkpoint and stages, and which of its fields apply
 * to them. Pure. Invariant: what `fitting` leaves is seen on the page, and what it takes away is not sent.
 */

import type { Preset } from "@/api/catalog";
import { type Abilities, abilitiesOf, type Backends } from "./abilities";
import type { Form, ReferencesAs } from "./form";
import { type Models, named, type Presets, presetOf } from "./presets";
import { finishedSize, type SizeLimits } from "./shapes";
import { plannedStages } from "./stages/stages";

export type Catalog = {
  backends: Backends | undefined;
  models: Models | undefined;
  presets: Presets | undefined;
};

const COUNT = 64;
const FALLBACK = {
  min_side: 64,
  max_side: 4096,
  size_multiple: 16,
  max_steps: 200,
  max_cfg: 30,
  max_count: COUNT,
  max_stages: 8,
  max_references: 16,
  max_prompt: 32_000,
};

export function choicesOf(form: Form, { backends, models, presets }: Catalog) {
  const isNative = (form.backend ?? backends?.default) === "native";
  const preset = presetOf(form, isNative ? named(form.model, models) : undefined, presets);
  const abilities = abilitiesOf(form, backends, models, preset);
  const limits = { ...FALLBACK, ...abilities.capabilities?.limits };
  const sides: SizeLimits = {
    min: limits.min_side,
    max: limits.max_side,
    multiple: abilities.known?.size_multiple ?? limits.size_multiple,
  };
  const referencesAs = meantAs(form, abilities, preset);
  const room = roomFor(referencesAs, abilities, limits.max_references);
  const looks = form.references.length > 0 && referencesAs !== "start";
  return {
    backends,
    models,
    presets,
    form,
    abilities,
    limits,
    sides,
    preset,
    referencesAs,
    /** As many pictures as are used that way. */
    room,
    /** The picture takes over the size of what it is made from. */
    followsPicture: looks && !form.stages && !form.size && !form.aspectRatio,
    stages: plannedStages(form, preset),
    size: finishedSize(form, preset),
    fitting: fitting(form, abilities, preset, referencesAs, room),
  };
}

export type Choices = ReturnType<typeof choicesOf>;

/** What the pictures are for: as the form says, or its preset, where the model can do that. */
function meantAs(form: Form, { context, known }: Abilities, preset: Preset | undefined): ReferencesAs {
  if (context === 0) return "start";
  return form.referencesAs ?? assumedAs(form, preset) ?? (known?.edits ? "context" : "start");
}

/** What the server takes them for where a request does not say it; undefined is `start`. */
function assumedAs(form: Form, preset: Preset | undefined): ReferencesAs | undefined {
  return form.stages ? undefined : preset?.references_as;
}

function roomFor(as: ReferencesAs, { context }: Abilities, most: number): number {
  if (as === "start") return 1;
  return as === "context" ? Math.min(context ?? most, most) : most;
}

function fitting(
  form: Form,
  { has }: Abilities,
  preset: Preset | undefined,
  as: ReferencesAs,
  room: number,
): Form {
  const references = form.references.slice(0, room);
  const isAssumed = as === (assumedAs(form, preset) ?? "start");
  const isSaid = references.length > 0 && (form.referencesAs === as || !isAssumed);
  const isUntold = has("distilled_guidance") === false;
  const isStart = as === "start";
  return {
    ...form,
    guidance: isUntold ? null : form.guidance,
    clipSkip: has("clip_skip") === false ? null : form.clipSkip,
    stages: isUntold ? (form.stages?.map(({ guidance: _, ...stage }) => stage) ?? null) : form.stages,
    references,
    referencesAs: isSaid ? as : null,
    denoise: isStart ? form.denoise : null,
    mask: isStart ? form.mask : null,
  };
}
