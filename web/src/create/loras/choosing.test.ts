import { expect, test } from "vitest";
import { chosen, dropped, weighted } from "./choosing";

const ink = { name: "ink", trigger: "ink style", suggested: [], fits: {}, fit: null };

test("a LoRA comes with its trigger words and goes with them", () => {
  const form = chosen({ adapters: [], prompt: "a cat" }, ink);
  expect(form).toEqual({ adapters: [{ name: "ink", weight: 1, trigger: "" }], prompt: "ink style, a cat" });
  expect(dropped(form, "ink", "ink style")).toEqual({ adapters: [], prompt: "a cat" });
});

test("a LoRA is chosen once", () => {
  const form = chosen({ adapters: [], prompt: "" }, ink);
  expect(chosen(form, ink)).toBe(form);
});

test("a weight is one LoRA's", () => {
  const form = chosen(chosen({ adapters: [], prompt: "" }, ink), { ...ink, name: "fog", trigger: "" });
  expect(weighted(form, "fog", -0.5).adapters.map(({ weight }) => weight)).toEqual([1, -0.5]);
});
