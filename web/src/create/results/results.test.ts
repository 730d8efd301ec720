import i18next from "i18next";
import { beforeAll, expect, test } from "vitest";
import { en } from "@/i18n/en";
import { aJob } from "@/testing";
import { adapterText, type Outcome } from "./adapters";
import { fileName } from "./download";
import { faultsOf } from "./faults";
import { layout } from "./layout";
import { type Catalog, pictureSize, presetName, stageSizes } from "./shape";
import { streamOf } from "./stream";

beforeAll(() => i18next.init({ resources: { en }, lng: "en" }));

test("jobs of both lists come once each, newest first", () => {
  const [old, young] = [aJob({ id: "a", created_at: 1 }), aJob({ id: "b", created_at: 2 })];
  expect(streamOf([old, young], [young]).map(({ id }) => id)).toEqual(["b", "a"]);
});

test("a job that has ended does not run again because a list is older", () => {
  const ended = aJob({ status: "completed", finished_at: 5 });
  expect(streamOf([aJob({ status: "processing" })], [ended])[0]?.status).toBe("completed");
});

const outcome: Outcome = {
  name: "ink",
  requested_weight: 0.8,
  status: "applied",
  matched: 60,
  total: 60,
  reason: "",
  sha256: "",
};

test("what became of an adapter is told in full", () => {
  const t = i18next.getFixedT("en", "queue");
  expect(adapterText(t, outcome)).toBe("ink × 0.8 was applied");
  const partial = { ...outcome, status: "partial" as const, matched: 45, reason: "Other shapes." };
  expect(adapterText(t, partial)).toBe("ink × 0.8 was applied in part: 45 of 60 weights fit.");
  expect(adapterText(t, { ...outcome, status: "skipped", reason: "Another family." })).toBe(
    "ink × 0.8 was left out.",
  );
});

test.each([
  ["A red boat, on the sea!", "7", "png", "a-red-boat-on-the-sea-7.png"],
  ["一只红色的猫", "18446744073709551615", "webp", "一只红色的猫-18446744073709551615.webp"],
  ["../../etc/passwd", "1", "jpeg", "etc-passwd-1.jpg"],
  ["", "1", "png", "picture-1.png"],
  ["a".repeat(500), "1", "png", `${"a".repeat(60)}-1.png`],
])("a file of %j is named after it", (prompt, seed, format, name) => {
  expect(fileName(prompt, seed, format)).toBe(name);
});

test("a fault that several pictures share is told once", () => {
  const fault = { code: "out_of_memory", message: "Ask for less.", retryable: true };
  const job = aJob({ count: 3, error: fault });
  for (const picture of job.pictures.slice(1)) picture.error = fault;
  expect(faultsOf(job)).toEqual([{ fault, numbers: [1, 2] }]);
});

const stage = (width: number, height: number) => ({ width, height }) as never;
const catalog: Catalog = {
  models: [{ name: "sketchbook", preset: "progressive", size: { width: 672, height: 864 } }],
  defaultModel: "sketchbook",
  presets: [{ name: "progressive", stages: [stage(176, 224), stage(336, 432), stage(672, 864)] }],
  defaultPreset: "progressive",
};

test("stages keep their proportion to the picture, as the server plans them", () => {
  expect(stageSizes({}, catalog)[1]).toEqual({ width: 336, height: 432 });
  expect(stageSizes({ aspect_ratio: "1:1" }, catalog)).toEqual([
    { width: 208, height: 192 },
    { width: 384, height: 384 },
    { width: 768, height: 768 },
  ]);
});

test("a job of a model that edits goes by the preset for that", () => {
  const editing = {
    ...catalog,
    models: [{ name: "k", preset: "flux-portrait", edits: true }],
    defaultModel: "k",
  };
  const references = [{ upload: "u" }];
  expect(presetName({ references, references_as: "context" }, editing)).toBe("kontext-edit");
  expect(presetName({ references, references_as: "start" }, editing)).toBe("flux-portrait");
});

test("the shape of a picture is known before it is painted", () => {
  expect(pictureSize({ width: 512, height: 256 }, catalog)).toEqual({ width: 512, height: 256 });
  expect(pictureSize({ preset: "gone" }, catalog)).toEqual({ width: 672, height: 864 });
  expect(pictureSize({ stages: [stage(64, 128)] }, catalog)).toEqual({ width: 64, height: 128 });
});

test("pictures never leave the room that there is", () => {
  for (const room of [320, 560, 900, 1800])
    for (const count of [1, 2, 3, 4, 9, 64])
      for (const ratio of [0.43, 0.78, 1, 2.3]) {
        const { columns, width } = layout(count, ratio, room);
        expect(columns * width + (columns - 1) * 12).toBeLessThanOrEqual(room);
        expect(columns).toBeLessThanOrEqual(count);
        expect(width).toBeGreaterThanOrEqual(80);
      }
});
