import { expect, it } from "vitest";
import { all, kept, NONE, ranged, toggled } from "./selection";

const ORDER = ["a", "b", "c", "d", "e"];
const ids = (selection: { ids: ReadonlySet<string> }) => [...selection.ids].sort().join("");

it("a click selects, a second one takes it back", () => {
  const once = toggled(toggled(NONE, "b"), "d");
  expect(ids(once)).toBe("bd");
  expect(ids(toggled(once, "b"))).toBe("d");
});

it("a range goes from the last click to here, both ways, and adds to what is selected", () => {
  expect(ids(ranged(toggled(NONE, "b"), ORDER, "d"))).toBe("bcd");
  expect(ids(ranged(toggled(NONE, "d"), ORDER, "b"))).toBe("bcd");
  expect(ids(ranged(toggled(toggled(NONE, "e"), "a"), ORDER, "b"))).toBe("abe");
});

it("two ranges start at the same picture", () => {
  const first = ranged(toggled(NONE, "c"), ORDER, "d");
  expect(ids(ranged(first, ORDER, "a"))).toBe("abcd");
});

it("a range without a start is one picture, from which the next goes", () => {
  const one = ranged(NONE, ORDER, "b");
  expect(ids(one)).toBe("b");
  expect(ids(ranged(one, ORDER, "d"))).toBe("bcd");
  expect(ids(ranged({ ids: new Set(), anchor: "gone" }, ORDER, "d"))).toBe("d");
});

it("all are all that are shown, and what is no longer shown is not selected", () => {
  const every = all(ORDER);
  expect(ids(every)).toBe("abcde");
  expect(ids(kept(every, new Set(["a", "c"])))).toBe("ac");
  expect(kept(every, new Set(ORDER))).toBe(every);
});
