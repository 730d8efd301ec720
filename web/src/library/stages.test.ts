import { expect, test } from "vitest";
import type { Stage } from "@/api/catalog";
import { frames, longest, summary } from "./stages";

const stage = (width: number, height: number, steps?: number) => ({ width, height, steps }) as Stage;

test("steps are added up, and the last stage has the picture's size", () =>
  expect(summary([stage(176, 224, 9), stage(336, 432, 16), stage(672, 864, 16)])).toEqual({
    steps: 41,
    width: 672,
    height: 864,
  }));

test("a stage without steps has the server's own number", () =>
  expect(summary([stage(64, 64)])?.steps).toBe(20));

test("without stages there is nothing to sum up", () => expect(summary([])).toBeUndefined());

test("frames keep their proportions to each other, whichever is the largest", () => {
  const stages = [stage(100, 200), stage(400, 200)];
  expect(frames(stages, 80, longest(stages))).toEqual([
    { width: 20, height: 40 },
    { width: 80, height: 40 },
  ]);
});
