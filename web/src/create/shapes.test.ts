import { expect, test } from "vitest";
import type { Preset } from "@/api/catalog";
import { EMPTY } from "./form";
import { finishedSize, isCut, shapeOf, sizeLike, sizeOfShape, snapped } from "./shapes";

const LIMITS = { min: 64, max: 4096, multiple: 16 };
const stage = { width: 672, height: 864, steps: 20, cfg: 2 } as NonNullable<Preset["stages"]>[number];
const preset = {
  name: "single",
  stages: [stage],
  sizes: { "16:9": { width: 1008, height: 576 } },
} as unknown as Preset;

test("sides become multiples of 16 within the limits", () => {
  expect([
    snapped(70, LIMITS),
    snapped(3, LIMITS),
    snapped(9000, LIMITS),
    snapped(4090, { ...LIMITS, max: 4090 }),
  ]).toEqual([64, 64, 4096, 4080]);
});

test("a shape keeps the area as the server does", () => {
  expect(sizeOfShape("1:1", stage)).toEqual({ width: 768, height: 768 });
  expect(sizeOfShape("16:9", stage)).toEqual({ width: 1008, height: 576 });
});

test("stages go before a typed size, that before a shape, that before the preset", () => {
  const all = {
    ...EMPTY,
    stages: [{ ...stage, width: 320 }],
    size: { width: 96, height: 96 },
    aspectRatio: "16:9",
  };
  expect(finishedSize(all, preset)).toEqual({ width: 320, height: 864 });
  expect(finishedSize({ ...all, stages: null }, preset)).toEqual({ width: 96, height: 96 });
  expect(finishedSize({ ...all, stages: null, size: null }, preset)).toEqual({ width: 1008, height: 576 });
  expect(finishedSize(EMPTY, preset)).toEqual({ width: 672, height: 864 });
  expect(finishedSize(EMPTY, undefined)).toBeNull();
});

test("a size that was rounded to 16 pixels is still known as its shape", () => {
  expect(shapeOf({ width: 880, height: 656 })).toBe("4:3");
  expect(shapeOf({ width: 672, height: 864 })).toBeNull();
});

test("a picture keeps its size in paintable sides, and a photograph is brought near to what is planned", () => {
  const limits = { min: 64, max: 4096, multiple: 16 };
  const planned = { width: 672, height: 864 };
  expect(sizeLike({ width: 500, height: 370 }, planned, limits)).toEqual({ width: 496, height: 368 });
  expect(sizeLike({ width: 6000, height: 4000 }, planned, limits)).toEqual({ width: 928, height: 624 });
});

test("rounding a side to what can be painted is no cut, another shape is", () => {
  expect(isCut({ width: 500, height: 370 }, { width: 496, height: 368 })).toBe(false);
  expect(isCut({ width: 500, height: 370 }, { width: 672, height: 864 })).toBe(true);
});
