/** Telling ComfyUI's workflows from other files and texts. Pure. */

/** The server takes 2 MiB; what is set beside the workflow needs some of it. */
export const LARGEST_BYTES = 2 * 2 ** 20 - 2 ** 16;

export type Trouble = "json" | "workflow" | "large";
export type Recognised = { json: string; loras: Lora[] } | { trouble: Trouble };

/** A node that applies a LoRA, with the inputs that say how strongly. */
export type Lora = { node: string; file: string; strengths: readonly string[] };

const STRENGTHS: Record<string, readonly string[]> = {
  LoraLoader: ["strength_model", "strength_clip"],
  LoraLoaderModelOnly: ["strength_model"],
};
/** Of nodes that the editor saves but does not run. */
const MUTED = 2;
const BYPASSED = 4;

export const isWorkflowFile = ({ name, type }: Pick<File, "name" | "type">): boolean =>
  type === "application/json" || name.toLowerCase().endsWith(".json");

/** The first workflow's file among what was dropped or pasted. */
export const workflowFileIn = (transfer: DataTransfer | null): File | undefined =>
  [...(transfer?.files ?? [])].find(isWorkflowFile);

/** A pasted text as a file, where it is a workflow and nothing else. */
export function workflowFileOf(text: string | undefined): File | undefined {
  if (!text?.trimStart().startsWith("{") || !("json" in recognised(text))) return undefined;
  return new File([text], "workflow.json", { type: "application/json" });
}

/** A text as a workflow in JSON, in either of ComfyUI's forms, or why it is none. */
export function recognised(text: string): Recognised {
  if (new Blob([text]).size > LARGEST_BYTES) return { trouble: "large" };
  const found = parsed(text);
  if (!found) return { trouble: "json" };
  const loras = lorasOf(found.value);
  return loras ? { json: found.json, loras } : { trouble: "workflow" };
}

/** Python, which ComfyUI is written in, also writes numbers that JSON does not have. */
const NO_JSON = /([[:,]\s*)(?:NaN|-?Infinity)(?=\s*[,\]}])/g;

function parsed(text: string): { json: string; value: unknown } | undefined {
  for (const json of [text, text.replace(NO_JSON, "$1null")]) {
    try {
      return { json, value: JSON.parse(json) };
    } catch {}
  }
  return undefined;
}

/** The LoRAs of a workflow; undefined where it is none. */
function lorasOf(value: unknown): Lora[] | undefined {
  if (!isRecord(value)) return undefined;
  if (Array.isArray(value.nodes)) return value.nodes.flatMap(ofEditor);
  const { prompt } = value;
  const nodes = Object.entries(isRecord(prompt) && !("class_type" in prompt) ? prompt : value);
  const isNode = ([, node]: [string, unknown]) => isRecord(node) && typeof node.class_type === "string";
  return nodes.length > 0 && nodes.every(isNode) ? nodes.flatMap(ofApi) : undefined;
}

function ofEditor(node: unknown): Lora[] {
  if (!isRecord(node) || node.mode === MUTED || node.mode === BYPASSED) return [];
  const { id, type, widgets_values: values } = node;
  return lora(String(id), type, Array.isArray(values) ? values[0] : undefined);
}

function ofApi([id, node]: [string, unknown]): Lora[] {
  if (!isRecord(node)) return [];
  return lora(id, node.class_type, isRecord(node.inputs) ? node.inputs.lora_name : undefined);
}

function lora(node: string, kind: unknown, file: unknown): Lora[] {
  const strengths = typeof kind === "string" ? STRENGTHS[kind] : undefined;
  return strengths && typeof file === "string" ? [{ node, file, strengths }] : [];
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
