import { expect, test } from "vitest";
import { diced, isSeed, tidySeed } from "./seeds";

test("seeds are digits up to 2^64 - 1", () => {
  expect([
    isSeed("18446744073709551615"),
    isSeed("18446744073709551616"),
    isSeed(""),
    isSeed("1.5"),
    isSeed("-1"),
  ]).toEqual([true, false, false, false, false]);
});

test("pasted seeds lose their separators and zeros in front", () => {
  expect([tidySeed(" 1,234 567 "), tidySeed("007"), tidySeed("0"), tidySeed("12x")]).toEqual([
    "1234567",
    "7",
    "0",
    "12x",
  ]);
});

test("a diced seed is one", () => {
  expect(isSeed(diced())).toBe(true);
});
