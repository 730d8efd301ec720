import { expect, test } from "vitest";
import type { Model, Preset } from "@/api/catalog";
import { EMPTY } from "./form";
import {
  type Models,
  misfit,
  named,
  type Presets,
  painter,
  presetOf,
  withModel,
  withPreset,
} from "./presets";

const model = (name: string, family: string, preset: string, more: Partial<Model> = {}) =>
  ({ name, family, preset, problem: "", edits: false, ...more }) as Model;
const models: Models = {
  default: "sketchbook",
  models: [
    model("sketchbook", "zimage", "progressive"),
    model("torn", "sdxl", "sdxl", { problem: "A file is missing. Add it." }),
    model("illustrious", "sdxl", "sdxl"),
    model("kontext-dev", "flux", "flux-portrait", { edits: true }),
  ],
};
const preset = (name: string, family: string) => ({ name, family, problem: "" }) as Preset;
const ANIME = preset("anime", "sdxl");
const PROGRESSIVE = preset("progressive", "zimage");
const SD15 = preset("sd15", "sd15");
const MINE = preset("mine", "");
const presets = {
  default: "progressive",
  presets: [ANIME, PROGRESSIVE, SD15, MINE, preset("flux-portrait", "flux"), preset("kontext-edit", "flux")],
} as unknown as Presets;
const PICTURE = { kind: "upload" as const, id: "upl_1", url: "/api/uploads/upl_1" };

test("without a name the preset is the model's own", () => {
  const chosen = named("kontext-dev", models);
  expect(presetOf(EMPTY, chosen, presets)?.name).toBe("flux-portrait");
  expect(presetOf({ ...EMPTY, preset: "mine" }, chosen, presets)?.name).toBe("mine");
  expect(presetOf(EMPTY, undefined, presets)?.name).toBe("progressive");
});

test("a model that edits has another preset for requests with pictures to look at", () => {
  const form = { ...EMPTY, references: [PICTURE] };
  const chosen = named("kontext-dev", models);
  expect(presetOf(form, chosen, presets)?.name).toBe("kontext-edit");
  expect(presetOf({ ...form, referencesAs: "start" }, chosen, presets)?.name).toBe("flux-portrait");
  expect(presetOf(form, named(null, models), presets)?.name).toBe("progressive");
});

test("a preset for another family is painted with the first sound checkpoint of it, where none is named", () => {
  expect(painter(EMPTY, ANIME, models)).toBe("illustrious");
  expect(painter(EMPTY, PROGRESSIVE, models)).toBe("sketchbook");
  expect(painter({ ...EMPTY, model: "kontext-dev" }, ANIME, models)).toBe("kontext-dev");
  expect(painter({ ...EMPTY, stages: [] }, ANIME, models)).toBe("sketchbook");
  expect(painter(EMPTY, SD15, models)).toBe("sketchbook");
});

test("a preset says why it does not go with the model", () => {
  expect(misfit(ANIME, null, models)).toBeNull();
  expect(misfit(SD15, null, models)).toBe("missing");
  expect(misfit(ANIME, "sketchbook", models)).toBe("other");
  expect(misfit(ANIME, "illustrious", models)).toBeNull();
});

test("nothing is said of what nobody knows", () => {
  expect(misfit(MINE, "sketchbook", models)).toBeNull();
  expect(misfit(ANIME, "gone", models)).toBeNull();
  expect(misfit(ANIME, null, undefined)).toBeNull();
  expect(misfit(ANIME, null, { ...models, default: "elsewhere" })).toBeNull();
});

test("of a preset and a model that do not go together, the one that is chosen last stays", () => {
  expect(withModel("kontext-dev", ANIME, models)).toEqual({ model: "kontext-dev", preset: null });
  expect(withModel(null, ANIME, models)).toEqual({ model: null, preset: null });
  expect(withModel("illustrious", ANIME, models)).toEqual({ model: "illustrious" });
  const form = { ...EMPTY, model: "sketchbook" };
  expect(withPreset(ANIME, form, models)).toEqual({ preset: "anime", stages: null, model: null });
  expect(withPreset(PROGRESSIVE, form, models)).toEqual({ preset: "progressive", stages: null });
});
