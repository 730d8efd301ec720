import { expect, test } from "vitest";
import { hasTrigger, withoutTrigger, withTrigger } from "./triggers";

test("the words go in front once", () => {
  expect(withTrigger("a cat", "ink style")).toBe("ink style, a cat");
  expect(withTrigger("ink style, a cat", "ink style")).toBe("ink style, a cat");
  expect(withTrigger("", "ink style")).toBe("ink style");
  expect(withTrigger("a cat", "")).toBe("a cat");
});

test("only whole words count as the trigger", () => {
  expect(hasTrigger("a pink style", "ink style")).toBe(false);
  expect(hasTrigger("A cat, Ink  Style.", "ink style")).toBe(true);
});

test("taking them out leaves no stray comma", () => {
  expect(withoutTrigger("ink style, a cat", "ink style")).toBe("a cat");
  expect(withoutTrigger("a cat, ink style", "ink style")).toBe("a cat");
  expect(withoutTrigger("a cat, ink style, night", "ink style")).toBe("a cat, night");
  expect(withoutTrigger("a cat in ink style at night", "ink style")).toBe("a cat in at night");
  expect(withoutTrigger("猫，水墨，夜晚", "水墨")).toBe("猫, 夜晚");
});

test("putting in and taking out gives the prompt back", () => {
  for (const prompt of ["a cat", "一只猫", ""])
    expect(withoutTrigger(withTrigger(prompt, "c++ (v2)"), "c++ (v2)")).toBe(prompt);
});
