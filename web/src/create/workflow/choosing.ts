/** What was chosen for a workflow, and what of it is sent. Pure. */

import type { Changes, Explained, Missing, Remark } from "@/api/workflows";
import { isSeed } from "../seeds";
import type { Lora } from "./recognise";

/** The few values that people change. */
export type Values = {
  prompt: string;
  negative_prompt: string;
  seed: string;
  steps: number | null;
  count: number | null;
};

export type Sent = { id: string; url: string };

/**
 * `values` are those that somebody has changed; `names` are ours, by those of the workflow; `left` are the names
 * of LoRAs that are painted without; `pictures` are by the node that loads them.
 */
export type Chosen = {
  values: Partial<Values>;
  names: Record<string, string>;
  left: string[];
  pictures: Record<string, Sent>;
};

export const NOTHING: Chosen = { values: {}, names: {}, left: [], pictures: {} };

/** What the workflow itself says, as far as what it comes to is known. */
export function valuesOf(request: Explained["request"]): Values | undefined {
  if (!request) return undefined;
  return {
    prompt: request.prompt ?? "",
    negative_prompt: request.negative_prompt ?? "",
    seed: String(request.seed ?? ""),
    steps: request.stages?.[0]?.steps ?? request.steps ?? null,
    count: request.count ?? 1,
  };
}

/** Whether what is to be kept out has any effect: guidance above 1 in some stage. */
export const isGuided = (request: Explained["request"]): boolean =>
  request?.stages?.some(({ cfg }) => (cfg ?? 0) > 1) ?? true;

/** What is sent beside the workflow; values that were emptied, or are none, stay the workflow's own. */
export function changesOf({ values, names, left, pictures }: Chosen, loras: readonly Lora[]): Changes {
  const { prompt, negative_prompt, seed, steps, count } = values;
  return {
    set: {
      ...(prompt === undefined ? {} : { prompt }),
      ...(negative_prompt === undefined ? {} : { negative_prompt }),
      ...(seed && isSeed(seed) ? { seed } : {}),
      ...(steps ? { steps } : {}),
      ...(count ? { count } : {}),
      ...Object.fromEntries(
        loras
          .filter(({ file }) => left.includes(file))
          .flatMap(({ node, strengths }) => strengths.map((input) => [`${node}.${input}`, 0])),
      ),
    },
    models: names,
    references: Object.fromEntries(Object.entries(pictures).map(([node, { id }]) => [node, id])),
  };
}

/** What stands for a LoRA, whatever its node; a picture is its node's. */
export const keyOf = ({ kind, node, name }: Missing): string => `${kind} ${kind === "picture" ? node : name}`;

/** All that was ever missing, once each: what has been chosen stays in sight, to be changed. */
export function needs(...known: (readonly Missing[] | undefined)[]): Missing[] {
  const found = new Map<string, Missing>();
  for (const missing of known.flatMap((list) => list ?? []))
    if (!found.has(keyOf(missing))) found.set(keyOf(missing), missing);
  return [...found.values()];
}

/**
 * The changes so far with a first choice for every name that is still missing, and no values: only to read what the
 * workflow says itself. Undefined where pictures are missing, too, or nothing resembles a name.
 */
export function guess(changes: Changes, missing: readonly Missing[] | undefined): Changes | undefined {
  if (!missing?.length || missing.some(({ kind, near }) => kind === "picture" || near.length === 0))
    return undefined;
  const inputs = Object.entries(changes.set).filter(([name]) => name.includes("."));
  const first = missing.map(({ name, near }) => [name, near[0] as string]);
  return {
    set: Object.fromEntries(inputs),
    models: { ...changes.models, ...Object.fromEntries(first) },
    references: changes.references,
  };
}

/** Remarks by their kinds, the weightiest first; the same said of several nodes is said once. */
export function grouped(remarks: readonly Remark[]): { kind: Remark["kind"]; said: [string, string[]][] }[] {
  return (["differs", "note", "ignored"] as const).flatMap((kind) => {
    const said = new Map<string, string[]>();
    for (const { text, node } of remarks.filter((remark) => remark.kind === kind))
      said.set(text, [...(said.get(text) ?? []), node]);
    return said.size > 0 ? [{ kind, said: [...said] }] : [];
  });
}
