import { expect, test } from "vitest";
import { type Act, BLANK, done, placed, redo, resizedBrush, undo, visible } from "./strokes";

const stroke: Act = { kind: "stroke", points: [{ x: 1, y: 2 }], size: 20, erases: false };
const fill: Act = { kind: "fill" };

test("undo and redo walk through what was done", () => {
  const two = done(done(BLANK, stroke), fill);
  expect(undo(two).acts).toEqual([stroke]);
  expect(redo(undo(two))).toEqual(two);
  expect(undo(BLANK)).toEqual(BLANK);
  expect(redo(two)).toEqual(two);
});

test("a new act forgets what was undone", () => {
  expect(redo(done(undo(done(BLANK, stroke)), fill)).acts).toEqual([fill]);
});

test("nothing before the last fill or clear has to be drawn, but an invert does", () => {
  expect(visible([stroke, fill, stroke])).toEqual([fill, stroke]);
  expect(visible([stroke, { kind: "invert" }])).toHaveLength(2);
});

test("a place on the shrunken picture is a place on the picture", () => {
  const box = { left: 10, top: 20, width: 200, height: 100 };
  expect(placed({ x: 110, y: 45 }, box, { width: 800, height: 400 })).toEqual({ x: 400, y: 100 });
});

test("the brush always changes and stays within bounds", () => {
  expect(resizedBrush(4, false)).toBe(4);
  expect(resizedBrush(4, true)).toBe(5);
  expect(resizedBrush(390, true)).toBe(400);
});
