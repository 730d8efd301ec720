/**
 * The form of the create page as data: its fields, what they ask the server for, and how a recipe is put back into
 * them. Every page uses it ("use again", templates, examples). Seeds are texts, since numbers here are exact to 2^53.
 */

import { create } from "zustand";
import { type PersistStorage, persist } from "zustand/middleware";
import type { Stage } from "@/api/catalog";
import type { Schemas } from "@/api/client";
import type { GenerationRequest, JobBody } from "@/api/jobs";
import { withTrigger } from "./loras/triggers";

export type Cache = Schemas["CacheSettings"];
/** `trigger` is sent as it is: words in front of the prompt beside those that stand in it, usually none. */
export type LoraChoice = { name: string; weight: number; trigger: string };

/** A picture to start from or to look at: an upload, or one of the gallery; `url` shows it. */
export type Picked = { kind: "upload" | "image"; id: string; url: string; width?: number; height?: number };

/** Whether pictures are painted over, looked at, or looked at side by side. */
export type ReferencesAs = NonNullable<GenerationRequest["references_as"]>;

export type Form = {
  prompt: string;
  /** Empty leaves it to the preset. */
  negativePrompt: string;
  model: string | null;
  preset: string | null;
  backend: string | null;
  count: number;
  /** Such as "16:9"; null leaves the shape to the preset. */
  aspectRatio: string | null;
  /** Set when somebody typed sizes; goes before `aspectRatio`. */
  size: { width: number; height: number } | null;
  /** Null draws one at random. */
  seed: string | null;
  steps: number | null;
  cfg: number | null;
  /** What a distilled network is told. */
  guidance: number | null;
  clipSkip: number | null;
  sampler: string | null;
  schedule: string | null;
  shift: number | null;
  denoise: number | null;
  cache: Cache | null;
  /** Set when somebody edited them; they go before preset, size, steps and the like. */
  stages: Stage[] | null;
  adapters: LoraChoice[];
  onAdapterMismatch: "degrade" | "fail";
  references: Picked[];
  /** Null leaves it to the preset and the model. */
  referencesAs: ReferencesAs | null;
  mask: Picked | null;
  format: "png" | "jpeg" | "webp";
  quality: number;
  priority: number;
};

export const EMPTY: Form = {
  prompt: "",
  negativePrompt: "",
  model: null,
  preset: null,
  backend: null,
  count: 1,
  aspectRatio: null,
  size: null,
  seed: null,
  steps: null,
  cfg: null,
  guidance: null,
  clipSkip: null,
  sampler: null,
  schedule: null,
  shift: null,
  denoise: null,
  cache: null,
  stages: null,
  adapters: [],
  onAdapterMismatch: "degrade",
  references: [],
  referencesAs: null,
  mask: null,
  format: "png",
  quality: 92,
  priority: 0,
};

const HISTORY = 100;

type FormStore = {
  form: Form;
  /** Prompts that were sent from any tab, newest first. */
  history: string[];
  /** The seed of the picture that this form asked for last. */
  lastSeed: string | null;
  set: (changes: Partial<Form>) => void;
  /** Replaces every field by what made a picture or was saved; what the request leaves open is reset. */
  load: (request: Partial<GenerationRequest>, seed?: string) => void;
  remember: (prompt: string) => void;
  rememberSeed: (seed: string) => void;
  reset: () => void;
};

const FORM_KEY = "limner-form";
const HISTORY_KEY = "limner-prompts";

type Kept = { form: Form; lastSeed: string | null };

/**
 * A tab keeps its own form over a reload, and a new tab begins with the form that was changed last in any of them: so
 * no tab writes over what is being typed in another.
 */
const perTab: PersistStorage<Kept> = {
  getItem: (name) => {
    const kept = read(() => sessionStorage, name) ?? read(() => localStorage, name);
    return kept === null ? null : JSON.parse(kept);
  },
  setItem: (name, value) => {
    const text = JSON.stringify(value);
    write(() => sessionStorage, name, text);
    write(() => localStorage, name, text);
  },
  removeItem: (name) => {
    sessionStorage.removeItem(name);
    localStorage.removeItem(name);
  },
};

function read(storage: () => Storage, name: string): string | null {
  try {
    return storage().getItem(name);
  } catch {
    return null; // storage may be forbidden; the form then lasts as long as the page
  }
}

function write(storage: () => Storage, name: string, text: string): void {
  try {
    storage().setItem(name, text);
  } catch {
    // Full or forbidden: nothing is lost as long as the page is open.
  }
}

function keptHistory(): string[] {
  try {
    const kept: unknown = JSON.parse(read(() => localStorage, HISTORY_KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((prompt) => typeof prompt === "string") : [];
  } catch {
    return [];
  }
}

/** The history with this prompt in front, once. */
export function remembered(history: readonly string[], prompt: string): string[] {
  if (prompt.trim() === "") return [...history];
  return [prompt, ...history.filter((earlier) => earlier !== prompt)].slice(0, HISTORY);
}

export const useForm = create<FormStore>()(
  persist(
    (set) => ({
      form: EMPTY,
      history: keptHistory(),
      lastSeed: null,
      set: (changes) => set(({ form }) => ({ form: { ...form, ...changes } })),
      load: (request, seed) =>
        set({ form: { ...fromRequest(request), ...(seed === undefined ? {} : { seed }) } }),
      remember: (prompt) =>
        set(({ history }) => {
          const known = keptHistory(); // another tab may have added to it
          const next = remembered(known.length ? known : history, prompt);
          write(() => localStorage, HISTORY_KEY, JSON.stringify(next));
          return { history: next };
        }),
      rememberSeed: (lastSeed) => set({ lastSeed }),
      reset: () => set(({ form }) => ({ form: { ...EMPTY, prompt: form.prompt, model: form.model } })),
    }),
    {
      name: FORM_KEY,
      version: 3,
      storage: perTab,
      partialize: ({ form, lastSeed }) => ({ form, lastSeed }),
      migrate: (kept) => migrated(kept as Kept),
      merge: (kept, current) => {
        const { form, lastSeed } = (kept ?? {}) as Partial<Kept>;
        return { ...current, form: { ...EMPTY, ...form }, lastSeed: lastSeed ?? null };
      },
    },
  ),
);

/** What was kept before there could be several references. */
export function migrated({ form, lastSeed }: Kept): Kept {
  const { reference, ...rest } = form as Form & { reference?: Picked | null };
  return { form: reference ? { ...rest, references: [reference] } : rest, lastSeed };
}

if (typeof window !== "undefined")
  window.addEventListener("storage", ({ key }) => {
    if (key === HISTORY_KEY) useForm.setState({ history: keptHistory() });
  });

/** What the form asks for; fields that were left open are left out, so that the preset decides. */
export function toRequest(form: Form): Partial<JobBody> {
  const asked: Partial<JobBody> = { prompt: form.prompt };
  if (form.negativePrompt) asked.negative_prompt = form.negativePrompt;
  if (form.model) asked.model = form.model;
  if (form.backend) asked.backend = form.backend;
  if (form.count !== 1) asked.count = form.count;
  if (form.seed !== null && form.seed !== "") asked.seed = form.seed; // the server reads digits as well
  if (form.stages) asked.stages = form.stages;
  else {
    if (form.preset) asked.preset = form.preset;
    if (form.size) Object.assign(asked, form.size);
    else if (form.aspectRatio) asked.aspect_ratio = form.aspectRatio;
    for (const name of ["steps", "cfg", "guidance", "sampler", "schedule", "shift", "cache"] as const) {
      const value = form[name];
      if (value !== null) Object.assign(asked, { [name]: value });
    }
  }
  if (form.clipSkip !== null) asked.clip_skip = form.clipSkip;
  if (form.adapters.length) {
    asked.adapters = form.adapters;
    if (form.onAdapterMismatch === "fail") asked.on_adapter_mismatch = "fail";
  }
  if (form.references.length) {
    asked.references = form.references.map(({ kind, id }) => ({ [kind]: id }));
    if (form.referencesAs) asked.references_as = form.referencesAs;
    if (form.referencesAs === null || form.referencesAs === "start") {
      if (form.denoise !== null) asked.denoise = form.denoise;
      if (form.mask) asked.mask = { [form.mask.kind]: form.mask.id };
    }
  }
  if (form.format !== "png") asked.output = { format: form.format, quality: form.quality };
  if (form.priority !== 0) asked.priority = form.priority;
  return asked;
}

/** What the form asks for, without what belongs to one job only. */
export function savable(form: Form): Partial<GenerationRequest> {
  const { priority: _, webhook: __, reuse: ___, ...request } = toRequest(form);
  return request;
}

/**
 * The form that would ask for this request. Trigger words move into the prompt, where they are seen. Uploads are shown
 * by the address under which the server gives them.
 */
export function fromRequest(request: Partial<GenerationRequest>): Form {
  const triggers = (request.adapters ?? []).map(({ trigger }) => trigger ?? "");
  return {
    ...EMPTY,
    prompt: triggers.reduceRight((prompt, trigger) => withTrigger(prompt, trigger), request.prompt ?? ""),
    negativePrompt: request.negative_prompt ?? "",
    model: request.model ?? null,
    preset: request.preset ?? null,
    backend: request.backend && request.backend !== "native" ? request.backend : null,
    count: request.count ?? 1,
    aspectRatio: request.aspect_ratio ?? null,
    size: request.width && request.height ? { width: request.width, height: request.height } : null,
    seed: request.seed === null || request.seed === undefined ? null : String(request.seed),
    steps: request.steps ?? null,
    cfg: request.cfg ?? null,
    guidance: request.guidance ?? null,
    clipSkip: request.clip_skip ?? null,
    sampler: request.sampler ?? null,
    schedule: request.schedule ?? null,
    shift: request.shift ?? null,
    denoise: request.denoise ?? null,
    cache: request.cache ?? null,
    stages: request.stages ?? null,
    adapters: (request.adapters ?? []).map(({ name, weight }) => ({
      name,
      weight: weight ?? 1,
      trigger: "",
    })),
    onAdapterMismatch: request.on_adapter_mismatch ?? "degrade",
    references: (request.references ?? []).map(picked).filter((one) => one !== null),
    referencesAs: request.references?.length ? (request.references_as ?? null) : null,
    mask: picked(request.mask),
    format: request.output?.format ?? "png",
    quality: request.output?.quality ?? 92,
  };
}

function picked(source: Schemas["Reference"] | null | undefined): Picked | null {
  if (source?.image) return { kind: "image", id: source.image, url: `/api/images/${source.image}/thumbnail` };
  if (source?.upload) return { kind: "upload", id: source.upload, url: `/api/uploads/${source.upload}` };
  return null;
}
