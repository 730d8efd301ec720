import { describe, expect, it } from "vitest";
import { beside, heightOf, type Line, lineAt, lineOf, lines, type Placed, type RowLine } from "./layout";

const FRAME = { width: 1000, target: 200, gap: 8, dayHeight: 40 };

function pictures(count: number, size: (n: number) => [number, number], perDay = count): Placed[] {
  return Array.from({ length: count }, (_, n) => {
    const [width, height] = size(n);
    return { id: `img_${n}`, width, height, created_at: Math.floor(n / perDay) };
  });
}
const mixed = (n: number): [number, number] =>
  (
    [
      [672, 864],
      [864, 672],
      [768, 768],
      [1008, 576],
    ] as [number, number][]
  )[n % 4] as [number, number];
const placed = (images: Placed[], frame = FRAME) => lines(images, frame, String);
const rowsOf = (all: Line[]) => all.filter((line): line is RowLine => line.kind === "row");

describe("rows", () => {
  it("fill the width exactly, except the last of a day", () => {
    const rows = rowsOf(placed(pictures(60, mixed)));
    for (const row of rows.slice(0, -1))
      expect(row.widths.reduce((sum, width) => sum + width, 0) + 8 * (row.widths.length - 1)).toBe(1000);
  });

  it("hold every picture once, in order", () => {
    const rows = rowsOf(placed(pictures(101, mixed, 13)));
    expect(
      rows.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, n) => start + n)),
    ).toEqual(Array.from({ length: 101 }, (_, n) => n));
  });

  it("are about as high as wanted", () => {
    for (const width of [320, 700, 1000, 2400])
      for (const row of rowsOf(placed(pictures(80, mixed), { ...FRAME, width, target: 150 }))) {
        expect(row.pictureHeight).toBeGreaterThan(150 * 0.6);
        expect(row.pictureHeight).toBeLessThanOrEqual(150 * 1.4 + 1);
      }
  });

  it("keep the pictures' shapes", () => {
    const images = pictures(40, mixed);
    for (const row of rowsOf(placed(images)))
      row.widths.forEach((width, n) => {
        const image = images[row.start + n] as Placed;
        expect(width / row.pictureHeight).toBeCloseTo(image.width / image.height, 1);
      });
  });

  it("of few pictures are not stretched", () => {
    const [row] = rowsOf(placed(pictures(1, () => [768, 768])));
    expect([row?.pictureHeight, row?.widths]).toEqual([200, [200]]);
  });

  it("cut a panorama instead of giving it no height", () => {
    const [row] = rowsOf(
      placed(
        pictures(1, () => [8000, 200]),
        { ...FRAME, width: 340 },
      ),
    );
    expect(row?.pictureHeight).toBe(131);
  });

  it("are not made before the width is known", () => {
    expect(placed(pictures(3, mixed), { ...FRAME, width: 0 })).toEqual([]);
  });
});

describe("lines", () => {
  const all = placed(pictures(200, mixed, 50));

  it("follow each other without holes", () => {
    for (let at = 1; at < all.length; at++) {
      const before = all[at - 1] as Line;
      expect(all[at]?.top).toBe(before.top + before.height);
    }
    expect(heightOf(all)).toBe((all.at(-1) as Line).top + (all.at(-1) as Line).height);
  });

  it("begin each day with a heading", () => {
    expect(all.filter(({ kind }) => kind === "day").map((line) => line.start)).toEqual([0, 50, 100, 150]);
  });

  it("are found by height and by picture", () => {
    for (const [at, line] of all.entries()) {
      expect(lineAt(all, line.top + line.height / 2)).toBe(at);
      if (line.kind === "row") expect(lineOf(all, line.end - 1)).toBe(at);
    }
  });
});

it("the picture below is the one under the middle, across a heading too", () => {
  const all = placed(pictures(10, () => [500, 500], 5));
  expect(beside(all, 2, 1, 8)).toBe(7);
  expect(beside(all, 7, -1, 8)).toBe(2);
  expect(beside(all, 7, 1, 8)).toBe(7);
});
