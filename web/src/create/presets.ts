/** Which preset and which checkpoint a form comes to, as the server finds them, and what does not go together. Pure. */

import type { Model, Preset } from "@/api/catalog";
import type { Schemas } from "@/api/client";
import type { Form } from "./form";

export type Models = Pick<Schemas["ModelList"], "default"> & { models: readonly Model[] };
export type Presets = Schemas["PresetList"];

/** For requests with pictures whose checkpoint is made to change them. */
const EDITING = "kontext-edit";

/** The name of the preset for requests that name none; `looks` is whether they have pictures to look at. */
export function presetFor(
  model: Partial<Pick<Model, "preset" | "edits">> | undefined,
  looks: boolean,
  otherwise: string | undefined,
): string | undefined {
  return model?.edits && looks ? EDITING : model?.preset || otherwise;
}

/** The checkpoint that is meant, named or not; undefined while it is not known. */
export function named(model: string | null, models: Models | undefined): Model | undefined {
  return models?.models.find(({ name }) => name === (model ?? models.default));
}

/** The preset that the form comes to; `model` is the named checkpoint, where it is one of the engine's. */
export function presetOf(
  form: Pick<Form, "preset" | "references" | "referencesAs">,
  model: Model | undefined,
  presets: Presets | undefined,
): Preset | undefined {
  const looks = form.references.length > 0 && form.referencesAs !== "start";
  const wanted = form.preset ?? presetFor(model, looks, presets?.default);
  return presets?.presets.find(({ name }) => name === wanted);
}

/** The checkpoint that paints: where none is named and the preset is made for another family, the first of that one. */
export function painter(
  form: Pick<Form, "model" | "stages">,
  preset: Pick<Preset, "family"> | undefined,
  models: Models | undefined,
): string | undefined {
  const own = form.model ?? models?.default;
  if (form.model !== null || form.stages || !preset || !isForOther(preset, named(null, models))) return own;
  return firstOf(preset.family, models)?.name ?? own;
}

/** Why a preset does not go with the chosen model: it is `other`, or none was chosen and one for it is `missing`. */
export function misfit(
  preset: Pick<Preset, "family">,
  model: string | null,
  models: Models | undefined,
): "other" | "missing" | null {
  if (!isForOther(preset, named(model, models))) return null;
  if (model !== null) return "other";
  return firstOf(preset.family, models) ? null : "missing";
}

/** The changes that a choice of preset brings: one for another family leaves the model to the server. */
export function withPreset(
  preset: Preset,
  { model }: Pick<Form, "model">,
  models: Models | undefined,
): Partial<Form> {
  const isOther = misfit(preset, model, models) === "other";
  return { preset: preset.name, stages: null, ...(isOther ? { model: null } : {}) };
}

/** The changes that a choice of model brings: a preset for another family goes. */
export function withModel(
  model: string | null,
  preset: Pick<Preset, "family"> | undefined,
  models: Models | undefined,
): Partial<Form> {
  const isOther = preset !== undefined && isForOther(preset, named(model, models));
  return { model, ...(isOther ? { preset: null } : {}) };
}

/** Of a checkpoint or preset whose family nobody knows, nothing is said. */
function isForOther({ family }: Pick<Preset, "family">, model: Model | undefined): boolean {
  return Boolean(family && model?.family) && family !== model?.family;
}

function firstOf(family: string, models: Models | undefined): Model | undefined {
  return models?.models.find((model) => model.family === family && !model.problem);
}
