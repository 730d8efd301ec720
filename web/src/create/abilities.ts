/** What the chosen model and backend can do, so that the form offers this and explains the rest. Pure. */

import type { Schemas } from "@/api/client";
import type { Form } from "./form";

export type Capabilities = Schemas["CapabilitiesView"];
export type Model = Schemas["ModelView"];
type Backends = Schemas["BackendView"];
type Models = Schemas["ModelList"];

/** Why something cannot be used, as a key of `cannot.*`. */
export type Hindrance = "adapters" | "references" | "masks" | "negative" | "guidance" | "models";

export type Abilities = {
  /** Name of the backend that would paint; undefined while nobody knows. */
  backend: string | undefined;
  /** Name of the model that would paint. */
  model: string | undefined;
  capabilities: Capabilities | undefined;
  /** What stands in the way of painting at all, in the server's words. */
  problem: string;
  /** No worker has told yet what it can paint with. */
  isWaiting: boolean;
  cannot: (what: Hindrance) => boolean;
};

export function abilitiesOf(
  form: Form,
  backends: Backends | undefined,
  models: Models | undefined,
): Abilities {
  const backend = form.backend ?? backends?.default;
  const capabilities = backend === undefined ? undefined : backends?.capabilities[backend];
  const isNative = backend === "native";
  const model = isNative ? (form.model ?? models?.default) : (form.model ?? capabilities?.models[0]);
  const known = isNative ? models?.models.find(({ name }) => name === model) : undefined;
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
    capabilities,
    problem: capabilities?.problem || known?.problem || "",
    isWaiting: isNative && models !== undefined && models.models.length === 0,
    cannot,
  };
}

/** Without guidance nothing can be kept out: cfg is 1 in every stage, so that the negative prompt has no effect. */
export function isNegativeIdle(stages: readonly { cfg?: number }[]): boolean {
  return stages.length > 0 && stages.every(({ cfg }) => (cfg ?? 1) === 1);
}
