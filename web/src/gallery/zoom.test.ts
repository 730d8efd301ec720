import { expect, it } from "vitest";
import { bounded, FITTED, fitted, panned, place, scaleFor, zoomed } from "./zoom";

const PICTURE = { width: 1000, height: 500 };
const PANE = { width: 800, height: 800 };
const CENTRE = { x: 0, y: 0 };

it("a picture is fitted whole, and a small one enlarged to twice its size at most", () => {
  expect(fitted(PICTURE, PANE)).toEqual({ width: 800, height: 400 });
  expect(fitted({ width: 100, height: 50 }, PANE)).toEqual({ width: 200, height: 100 });
});

it("at one hundred per cent a pixel is a pixel of the screen", () => {
  const view = zoomed(FITTED, scaleFor(1, PICTURE, PANE), CENTRE, PICTURE, PANE);
  expect(place(view, PICTURE, PANE).width).toBe(1000);
  expect(place({ ...FITTED, scale: scaleFor(1, PICTURE, PANE, 2) }, PICTURE, PANE).width).toBe(500);
});

it("zooming keeps the point under the pointer", () => {
  const at = { x: 300, y: 50 };
  const under = (view: typeof FITTED) => {
    const { left, width } = place(view, PICTURE, PANE);
    return (PANE.width / 2 + at.x - left) / width;
  };
  const closer = zoomed(FITTED, 4, at, PICTURE, PANE);
  expect(under(closer)).toBeCloseTo(under(FITTED));
  expect(under(zoomed(closer, 3, at, PICTURE, PANE))).toBeCloseTo(under(FITTED));
});

it("dragging stops at the picture's edge, and a fitted picture stays", () => {
  const closer = zoomed(FITTED, 4, CENTRE, PICTURE, PANE);
  expect(place(panned(closer, { x: 9999, y: 0 }, PICTURE, PANE), PICTURE, PANE).left).toBeCloseTo(0);
  expect(panned(FITTED, { x: 50, y: 50 }, PICTURE, PANE)).toEqual(FITTED);
});

it("zooming ends at eight times and at the whole picture", () => {
  expect(place(zoomed(FITTED, 1e9, CENTRE, PICTURE, PANE), PICTURE, PANE).width).toBeCloseTo(8000);
  expect(zoomed(FITTED, 0.01, CENTRE, PICTURE, PANE)).toEqual(FITTED);
});

it("one view shows the same part of a picture of another size", () => {
  const view = bounded({ scale: 4, x: 0.8, y: 0.5 }, PICTURE, PANE);
  const big = { width: 2000, height: 1000 };
  expect(place(view, big, PANE)).toEqual(place(view, PICTURE, PANE));
});
