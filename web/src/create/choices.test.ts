import { expect, test } from "vitest";
import { type Catalog, choicesOf } from "./choices";
import { EMPTY, type Form, type Picked, toRequest } from "./form";
import { added, removed } from "./reference/references";

const model = (name: string, family: string, preset: string, more: object = {}) => ({
  name,
  family,
  preset,
  problem: "",
  guidance: true,
  distilled_guidance: false,
  clip_skip: false,
  context_references: 0,
  edits: false,
  size_multiple: 16,
  ...more,
});
const flux = { distilled_guidance: true, context_references: 3 };
const stage = (more: object = {}) => ({ width: 64, height: 64, steps: 4, cfg: 1, ...more });
const preset = (name: string, family: string, more: object = {}) => ({
  name,
  family,
  problem: "",
  negative_prompt: "",
  stages: [stage()],
  sizes: {},
  ...more,
});
const capabilities = { problem: "", models: ["far"], adapters: true, references: true, masks: true };
const catalog = {
  backends: { default: "native", capabilities: { native: capabilities, distant: capabilities } },
  models: {
    default: "sketchbook",
    models: [
      model("sketchbook", "zimage", "progressive"),
      model("illustrious", "sdxl", "sdxl", { clip_skip: true, size_multiple: 8 }),
      model("dev", "flux", "flux-portrait", flux),
      model("kontext", "flux", "flux-portrait", { ...flux, edits: true }),
    ],
  },
  presets: {
    default: "progressive",
    presets: [
      preset("progressive", "zimage"),
      preset("anime", "sdxl", { negative_prompt: "lowres", clip_skip: 2 }),
      preset("flux-portrait", "flux", { stages: [stage({ guidance: 4 })] }),
      preset("kontext-edit", "flux", { references_as: "context" }),
    ],
  },
} as unknown as Catalog;

const pictures = (count: number): Picked[] =>
  Array.from({ length: count }, (_, at) => ({
    kind: "upload",
    id: `upl_${at}`,
    url: `/api/uploads/upl_${at}`,
  }));
const choices = (changes: Partial<Form>) => choicesOf({ ...EMPTY, ...changes }, catalog);
const sent = (changes: Partial<Form>) => toRequest(choices(changes).fitting);

test("what the model cannot be told is not sent, and stays in the form", () => {
  const told = { guidance: 3.5, clipSkip: 2 };
  expect(sent(told)).toEqual({ prompt: "" });
  expect(choices(told).form).toMatchObject(told);
  expect(sent({ ...told, model: "dev" })).toEqual({ prompt: "", model: "dev", guidance: 3.5 });
  expect(sent({ ...told, model: "illustrious" })).toEqual({ prompt: "", model: "illustrious", clip_skip: 2 });
});

test("a preset for another family brings the abilities of the checkpoint that the server takes", () => {
  const { abilities, sides } = choices({ preset: "anime" });
  expect(abilities.model).toBe("illustrious");
  expect([abilities.has("clip_skip"), abilities.has("distilled_guidance"), sides.multiple]).toEqual([
    true,
    false,
    8,
  ]);
  expect(sent({ preset: "anime", clipSkip: 1 })).toEqual({ prompt: "", preset: "anime", clip_skip: 1 });
});

test("what nobody knows yet is sent as it is, and another backend is told none of it", () => {
  const form = { ...EMPTY, guidance: 3.5, references: pictures(2), referencesAs: "context" as const };
  const unknown = choicesOf(form, { backends: undefined, models: undefined, presets: undefined });
  expect(unknown.fitting).toEqual(form);
  expect(sent({ ...form, backend: "distant" })).toEqual({
    prompt: "",
    backend: "distant",
    references: [{ upload: "upl_0" }],
  });
});

test("own stages lose a guidance that the network is not told", () => {
  const stages = [stage({ guidance: 4 })] as Form["stages"];
  expect(sent({ stages, model: "dev" }).stages).toEqual(stages);
  expect(sent({ stages }).stages).toEqual([stage()]);
});

test("pictures are painted over unless the preset or the model looks at them", () => {
  const references = pictures(1);
  const as = (changes: Partial<Form>) => choices({ references, ...changes }).referencesAs;
  expect(as({})).toBe("start");
  expect(as({ referencesAs: "context" })).toBe("start");
  expect(as({ model: "dev" })).toBe("start");
  expect(as({ model: "dev", referencesAs: "stitched" })).toBe("stitched");
  expect(as({ model: "kontext" })).toBe("context");
  expect(as({ model: "kontext", preset: "flux-portrait" })).toBe("context");
  expect(as({ model: "kontext", referencesAs: "start" })).toBe("start");
});

test("what the pictures are for is said where the server would take them for something else", () => {
  const as = (changes: Partial<Form>) => sent({ references: pictures(1), ...changes }).references_as;
  expect(as({ model: "kontext" })).toBeUndefined();
  expect(as({ model: "kontext", preset: "flux-portrait" })).toBe("context");
  expect(as({ model: "kontext", stages: [stage()] as Form["stages"] })).toBe("context");
  expect(as({ preset: "kontext-edit", model: "sketchbook" })).toBe("start");
  expect(as({ referencesAs: "stitched" })).toBeUndefined();
});

test("no more pictures are sent than are used, and strength and mask only where one is painted over", () => {
  const form = { references: pictures(5), denoise: 0.4, mask: pictures(1)[0] ?? null };
  const counts = (["start", "context", "stitched"] as const).map((referencesAs) => {
    const request = sent({ ...form, model: "dev", referencesAs });
    return [request.references?.length, request.denoise, "mask" in request];
  });
  expect(counts).toEqual([
    [1, 0.4, true],
    [3, undefined, false],
    [5, undefined, false],
  ]);
});

test("a picture that is made from others follows their size until one says another", () => {
  const form = { model: "kontext", references: pictures(1) };
  expect(choices(form).followsPicture).toBe(true);
  expect(choices({ ...form, aspectRatio: "1:1" }).followsPicture).toBe(false);
  expect(choices({ ...form, referencesAs: "start" }).followsPicture).toBe(false);
  expect(choices({ model: "kontext" }).followsPicture).toBe(false);
});

test("pictures to look at are added one after the other, and the one to paint over is replaced", () => {
  const [first, second] = pictures(2) as [Picked, Picked];
  const look = choices({ model: "kontext", references: [first] });
  expect(added(look, second)).toEqual({ references: [first, second] });
  const over = choices({ references: [first], mask: first, denoise: 0.95 });
  expect(added(over, second)).toEqual({ references: [second], mask: null, denoise: null });
  expect(added(choices({ model: "kontext", references: pictures(16) }), first).references).toHaveLength(16);
});

test("with the first picture its mask goes, with the last one what they were for", () => {
  const [first, second] = pictures(2) as [Picked, Picked];
  const form: Form = {
    ...EMPTY,
    references: [first, second],
    mask: first,
    denoise: 0.5,
    referencesAs: "context",
  };
  expect(removed(form, 1)).toEqual({ references: [first] });
  expect(removed(form, 0)).toEqual({ references: [second], mask: null, denoise: null });
  expect(removed({ ...form, references: [first] }, 0)).toMatchObject({ references: [], referencesAs: null });
});
