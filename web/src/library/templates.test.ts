import i18next from "i18next";
import { beforeAll, expect, test } from "vitest";
import type { GenerationRequest } from "@/api/jobs";
import { EMPTY, fromRequest, savable } from "@/create/form";
import { en } from "@/i18n/en";
import { facts } from "./templates";

beforeAll(() => i18next.init({ resources: { en }, lng: "en", ns: ["library"] }));

const told = (request: Partial<GenerationRequest>) => facts(i18next.getFixedT("en", "library"), request);

test("what belongs to one job is not saved", () =>
  expect(savable({ ...EMPTY, prompt: "a boat", priority: 5 })).toEqual({ prompt: "a boat" }));

test("what is saved fills the form again", () => {
  const form = { ...EMPTY, prompt: "a boat", seed: "18446744073709551615", preset: "sketch", count: 3 };
  expect(fromRequest(savable(form))).toEqual(form);
});

test("a card names model, shape, LoRAs with a weight that is not 1, count and seed", () =>
  expect(
    told({
      model: "sketchbook",
      preset: "single",
      aspect_ratio: "16:9",
      adapters: [
        { name: "ink", weight: 0.8, trigger: "" },
        { name: "wash", weight: 1, trigger: "" },
      ],
      count: 2,
      seed: 0,
    }),
  ).toEqual(["sketchbook", "single", "16:9", "ink 0.8", "wash", "2 pictures", "seed 0"]));

test("without a seed it says that one is drawn", () =>
  expect(told({ prompt: "a" })).toEqual(["random seed"]));

test("it says with how many reference pictures", () => {
  const references = [{ upload: "a" }, { image: "b" }];
  expect(told({ references })).toContain("with 2 reference pictures");
  expect(told({ references: references.slice(1) })).toContain("with a reference picture");
});
