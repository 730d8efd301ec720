import { beforeEach, expect, test } from "vitest";
import { EMPTY, type Form, fromRequest, migrated, type Picked, remembered, toRequest, useForm } from "./form";

const FULL: Form = {
  ...EMPTY,
  prompt: "ink style, a cat",
  negativePrompt: "rain",
  model: "sketchbook",
  preset: "sketch",
  backend: "comfyui",
  count: 4,
  aspectRatio: "16:9",
  seed: "18446744073709551615",
  steps: 12,
  cfg: 2.5,
  sampler: "heun",
  schedule: "karras",
  shift: 3,
  denoise: 0.4,
  cache: { reuse_threshold: 0.2, start_percent: 0.1, end_percent: 0.9 },
  adapters: [{ name: "ink", weight: 0.8, trigger: "" }],
  onAdapterMismatch: "fail",
  guidance: 3.5,
  clipSkip: 2,
  references: [{ kind: "image", id: "img_1", url: "/api/images/img_1/thumbnail" }],
  mask: { kind: "upload", id: "upl_1", url: "/api/uploads/upl_1" },
  format: "webp",
  quality: 80,
};

beforeEach(() => useForm.setState({ form: EMPTY, history: [], lastSeed: null }));

test("a form comes back from its own request", () => {
  expect(fromRequest(toRequest(FULL))).toEqual(FULL);
  const sized = { ...FULL, aspectRatio: null, size: { width: 640, height: 480 } };
  expect(fromRequest(toRequest(sized))).toEqual(sized);
});

test("what was left open stays open, so that the preset decides", () => {
  expect(toRequest({ ...EMPTY, prompt: "a cat" })).toEqual({ prompt: "a cat" });
});

test("seeds above 2^53 go out and come back digit by digit", () => {
  const request = toRequest({ ...EMPTY, seed: "9007199254740993" });
  expect(JSON.parse(JSON.stringify(request)).seed).toBe("9007199254740993");
  expect(fromRequest(request).seed).toBe("9007199254740993");
  expect(toRequest({ ...EMPTY, seed: "0" }).seed).toBe("0");
});

test("own stages go instead of everything that they say themselves", () => {
  const stages = [
    {
      width: 64,
      height: 64,
      steps: 4,
      cfg: 1,
      sampler: "euler",
      schedule: "simple",
      denoise: 1,
      upscale: "nearest-exact" as const,
    },
  ];
  const request = toRequest({ ...FULL, stages });
  expect(request.stages).toBe(stages);
  for (const name of [
    "preset",
    "aspect_ratio",
    "width",
    "steps",
    "cfg",
    "guidance",
    "sampler",
    "schedule",
    "shift",
    "cache",
  ])
    expect(request).not.toHaveProperty(name);
});

test("a strength and a mask without a picture are not sent", () => {
  const request = toRequest({ ...FULL, references: [] });
  expect(request).not.toHaveProperty("denoise");
  expect(request).not.toHaveProperty("mask");
});

test("several pictures to look at come back in their order, without strength and mask", () => {
  const references: Picked[] = [
    { kind: "upload", id: "upl_2", url: "/api/uploads/upl_2" },
    { kind: "image", id: "img_1", url: "/api/images/img_1/thumbnail" },
  ];
  const request = toRequest({ ...FULL, references, referencesAs: "context" });
  expect(request.references).toEqual([{ upload: "upl_2" }, { image: "img_1" }]);
  expect(request).not.toHaveProperty("denoise");
  expect(request).not.toHaveProperty("mask");
  expect(fromRequest(request)).toMatchObject({ references, referencesAs: "context", mask: null });
});

test("what the pictures are for is not said without one", () => {
  expect(toRequest({ ...EMPTY, referencesAs: "context" })).toEqual({ prompt: "" });
  expect(fromRequest({ references: [], references_as: "context" }).referencesAs).toBeNull();
});

test("a form that was kept with one reference still has it", () => {
  const reference = FULL.references[0];
  const { references: _, ...before } = EMPTY;
  const kept = { form: { ...before, reference }, lastSeed: "7" } as unknown as Parameters<typeof migrated>[0];
  expect(migrated(kept)).toEqual({ form: { ...before, references: [reference] }, lastSeed: "7" });
  expect(migrated({ form: EMPTY, lastSeed: null })).toEqual({ form: EMPTY, lastSeed: null });
});

test("trigger words that the server put in front are seen in the prompt, once", () => {
  const adapters = [
    { name: "ink", weight: 1, trigger: "ink style" },
    { name: "fog", weight: 1, trigger: "foggy" },
  ];
  const form = fromRequest({ prompt: "a foggy sea", adapters });
  expect(form.prompt).toBe("ink style, a foggy sea");
  expect(toRequest(form).adapters?.map(({ trigger }) => trigger)).toEqual(["", ""]);
});

test("loading a recipe takes the seed that is given", () => {
  useForm.getState().load({ prompt: "a cat", seed: 3 }, "18446744073709551615");
  expect(useForm.getState().form).toMatchObject({
    prompt: "a cat",
    seed: "18446744073709551615",
    steps: null,
  });
});

test("a reset keeps the words and the model", () => {
  useForm.getState().set(FULL);
  useForm.getState().reset();
  expect(useForm.getState().form).toEqual({ ...EMPTY, prompt: FULL.prompt, model: FULL.model });
});

test("the history has each prompt once, the newest first", () => {
  expect(remembered(["a", "b"], "b")).toEqual(["b", "a"]);
  expect(remembered(["a"], "  ")).toEqual(["a"]);
});
