import { expect, test } from "vitest";
import type { Preset, Stage } from "@/api/catalog";
import { EMPTY } from "../form";
import { added, changed, givenBack, moved, owned, plannedStages, removed, resized } from "./stages";

const stage = (width: number, height: number, steps: number, denoise = 1): Stage => ({
  width,
  height,
  steps,
  denoise,
  cfg: 1,
  sampler: "euler",
  schedule: "simple",
  upscale: "nearest-exact",
});
const THREE = [stage(176, 224, 9), stage(336, 432, 16, 0.7), stage(672, 864, 16, 0.6)];
const preset = { name: "progressive", stages: THREE, sizes: {} } as unknown as Preset;

test("steps and guidance are the first stage's, sampler and EasyCache every stage's", () => {
  const cache = { reuse_threshold: 0.2, start_percent: 0.1, end_percent: 0.9 };
  const planned = plannedStages({ ...EMPTY, steps: 5, cfg: 3, sampler: "heun", cache }, preset);
  expect(planned.map(({ steps, cfg }) => [steps, cfg])).toEqual([
    [5, 3],
    [16, 1],
    [16, 1],
  ]);
  expect(planned.every((one) => one.sampler === "heun" && one.cache === cache)).toBe(true);
});

test("what a distilled network is told is every stage's", () => {
  const planned = plannedStages({ ...EMPTY, guidance: 3.5 }, preset);
  expect(planned.map(({ guidance }) => guidance)).toEqual([3.5, 3.5, 3.5]);
});

test("own stages take along what else the preset says, and give it back", () => {
  const anime = { ...preset, negative_prompt: "lowres", clip_skip: 2 };
  const choices = { form: EMPTY, preset: anime, models: { default: "m", models: [] } };
  const abilities = { known: { name: "illustrious" } } as Parameters<typeof owned>[1]["abilities"];
  const form = { ...EMPTY, ...owned(THREE, { ...choices, abilities }) };
  expect(form).toMatchObject({
    stages: THREE,
    negativePrompt: "lowres",
    clipSkip: 2,
    referencesAs: null,
    model: "illustrious",
  });
  expect({ ...form, ...givenBack(form, anime) }).toEqual({ ...EMPTY, model: "illustrious" });
  expect(givenBack({ ...form, negativePrompt: "rain", clipSkip: 1 }, anime)).toEqual({ stages: null });
});

test("a size is the last stage's and the others follow", () => {
  const sizes = resized(THREE, { width: 768, height: 768 }).map(({ width, height }) => [width, height]);
  expect(sizes).toEqual([
    [208, 192],
    [384, 384],
    [768, 768],
  ]);
});

test("own stages are the plan whatever the other fields say", () => {
  const own = [stage(320, 320, 4)];
  expect(plannedStages({ ...EMPTY, stages: own, steps: 30, aspectRatio: "16:9" }, preset)).toBe(own);
});

test("changing one stage leaves the others alone", () => {
  expect(changed(THREE, 1, { steps: 3 }).map((one) => one.steps)).toEqual([9, 3, 16]);
  expect(THREE[1]?.steps).toBe(16);
});

test("a new stage is larger and refines the last one", () => {
  expect(added(THREE).at(-1)).toMatchObject({ width: 1008, height: 1296, denoise: 0.6 });
});

test("without the first stage the second begins from nothing", () => {
  expect(removed(THREE, 0).map((one) => one.denoise)).toEqual([1, 0.6]);
});

test("a stage that moves takes its numbers along but not its place's size", () => {
  const order = moved(THREE, 0, 1);
  expect(order.map((one) => one.steps)).toEqual([16, 9, 16]);
  expect(order.map((one) => one.width)).toEqual([176, 336, 672]);
  expect(order.map((one) => one.denoise)).toEqual([1, 0.6, 0.6]);
  expect(moved(THREE, 2, 3)).toEqual(THREE);
});
