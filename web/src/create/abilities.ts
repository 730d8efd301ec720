/** What the chosen model and backend can do, so that the form offers this and explains the rest. Pure. */

import type { Model, Preset } from "@/api/catalog";
import type { Schemas } from "@/api/client";
import type { Form } from "./form";
import { type Models, painter } from "./presets";

export type Capabilities = Schemas["CapabilitiesView"];
export type Backends = Schemas["BackendView"];

/** Why something cannot be used, as a key of `cannot.*`. */
export type Hindrance = "adapters" | "references" | "masks" | "negative" | "guidance" | "models";

/** What only some families can be told. */
export type Extra = "distilled_guidance" | "clip_skip";

export type Abilities = {
  /** Name of the backend that would paint; undefined while nobody knows. */
  backend: string | undefined;
  /** Name of the model that would paint. */
  model: string | undefined;
  /** That model, where it is one of the engine's. */
  known: Model | undefined;
  capabilities: Capabilities | undefined;
  /** What stands in the way of painting at all, in the server's words. */
  problem: string;
  /** No worker has told yet what it can paint with. */
  isWaiting: boolean;
  cannot: (what: Hindrance) => boolean;
  /** Undefined while nobody knows. */
  has: (what: Extra) => boolean | undefined;
  /** How many pictures the model can look at while it paints; undefined while nobody knows. */
  context: number | undefined;
};

export function abilitiesOf(
  form: Form,
  backends: Backends | undefined,
  models: Models | undefined,
  preset?: Preset,
): Abilities {
  const backend = form.backend ?? backends?.default;
  const capabilities = backend === undefined ? undefined : backends?.capabilities[backend];
  const isNative = backend === "native";
  const model = isNative ? painter(form, preset, models) : (form.model ?? capabilities?.models[0]);
  const known = isNative ? models?.models.find(({ name }) => name === model) : undefined;
  const isElsewhere = backend !== undefined && !isNative;
  const cannot = (what: Hindrance) => {
    if (!capabilities) return false; // nothing is greyed before it is known
    if (what === "adapters") return !capabilities.adapters;
    if (what === "references") return !capabilities.references;
    if (what === "masks") return !capabilities.masks;
    if (what === "models") return !isNative && capabilities.models.length === 0;
    const isGuided = capabilities.guidance && known?.guidance !== false;
    return what === "guidance" ? !isGuided : !capabilities.negative_prompts || !isGuided;
  };
  return {
    backend,
    model,
    known,
    capabilities,
    problem: capabilities?.problem || known?.problem || "",
    isWaiting: isNative && models !== undefined && models.models.length === 0,
    cannot,
    has: (what) => (isElsewhere ? false : known?.[what]),
    context: isElsewhere ? 0 : known?.context_references,
  };
}

export const MAX_GUIDANCE = 30;
export const MAX_CLIP_SKIP = 12;

/** Whether its field is there: while nobody knows, only where it says something, which is then sent. */
export function isShown({ has }: Abilities, what: Extra, value: number | null | undefined): boolean {
  return has(what) ?? typeof value === "number";
}

/** Without guidance nothing can be kept out: cfg is 1 in every stage, so that the negative prompt has no effect. */
export function isNegativeIdle(stages: readonly { cfg?: number }[]): boolean {
  return stages.length > 0 && stages.every(({ cfg }) => (cfg ?? 1) === 1);
}
