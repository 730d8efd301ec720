import { expect, test } from "vitest";
import { abilitiesOf, isNegativeIdle, isShown } from "./abilities";
import { EMPTY } from "./form";

const able = {
  problem: "",
  models: ["m"],
  adapters: true,
  references: true,
  masks: true,
  negative_prompts: true,
  guidance: true,
};
const backends = {
  default: "native",
  capabilities: {
    native: able,
    distant: { ...able, adapters: false, masks: false, problem: "It does not answer. Start it." },
  },
} as unknown as Parameters<typeof abilitiesOf>[1];
const models = {
  default: "m",
  models: [
    { name: "m", problem: "", guidance: true },
    { name: "broken", problem: "A file is missing. Add it.", guidance: false },
  ],
} as unknown as Parameters<typeof abilitiesOf>[2];

test("what nobody knows yet is not greyed", () => {
  const abilities = abilitiesOf(EMPTY, undefined, undefined);
  expect(abilities.cannot("adapters")).toBe(false);
  expect(abilities.problem).toBe("");
});

test("the default backend and model count where the form names none", () => {
  expect(abilitiesOf(EMPTY, backends, models)).toMatchObject({
    backend: "native",
    model: "m",
    isWaiting: false,
  });
});

test("a backend's shortcomings and problem are those of the form that chose it", () => {
  const abilities = abilitiesOf({ ...EMPTY, backend: "distant" }, backends, models);
  expect([abilities.cannot("adapters"), abilities.cannot("masks"), abilities.cannot("references")]).toEqual([
    true,
    true,
    false,
  ]);
  expect(abilities.problem).toBe("It does not answer. Start it.");
});

test("a model's problem and its want of guidance count too", () => {
  const abilities = abilitiesOf({ ...EMPTY, model: "broken" }, backends, models);
  expect(abilities.problem).toBe("A file is missing. Add it.");
  expect([abilities.cannot("guidance"), abilities.cannot("negative")]).toEqual([true, true]);
});

test("a negative prompt is idle where no stage is guided", () => {
  expect(isNegativeIdle([{ cfg: 1 }, {}])).toBe(true);
  expect(isNegativeIdle([{ cfg: 2 }, { cfg: 1 }])).toBe(false);
  expect(isNegativeIdle([])).toBe(false);
});

test("a field of some families only is shown for those, and while nobody knows where it says something", () => {
  const told = {
    ...models,
    models: [{ name: "m", problem: "", distilled_guidance: true, clip_skip: false }],
  } as unknown as typeof models;
  const known = abilitiesOf(EMPTY, backends, told);
  expect([isShown(known, "distilled_guidance", null), isShown(known, "clip_skip", 2)]).toEqual([true, false]);
  const unknown = abilitiesOf(EMPTY, backends, undefined);
  expect([isShown(unknown, "clip_skip", null), isShown(unknown, "clip_skip", 2)]).toEqual([false, true]);
  const distant = abilitiesOf({ ...EMPTY, backend: "distant" }, backends, told);
  expect([isShown(distant, "distilled_guidance", 3), distant.context]).toEqual([false, 0]);
});
