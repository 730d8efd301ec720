/** How a job's pictures share the width that there is: all alike in shape, large enough to enjoy, never cropped. */

export const GAP = 12;

export type Layout = { columns: number; width: number };

/** Columns and the width of a picture in pixels, for `count` pictures of that ratio (width by height). */
export function layout(count: number, ratio: number, room: number, tallest = 640): Layout {
  const aim =
    tallest < 640
      ? tallest
      : count === 1
        ? tallest
        : count === 2
          ? 460
          : count <= 4
            ? 380
            : count <= 12
              ? 300
              : 200;
  const most = Math.max(1, Math.floor((room + GAP) / (96 + GAP)));
  const fitting = Math.round((room + GAP) / (aim * ratio + GAP));
  const wanted = Math.max(1, Math.min(count, most, Math.max(fitting, count > 1 && room >= 300 ? 2 : 1)));
  const columns = Math.max(1, Math.ceil(count / Math.ceil(count / wanted))); // no picture alone in a last row
  const shared = (room - GAP * (columns - 1)) / columns;
  return { columns, width: Math.floor(Math.min(shared, (count === 1 ? tallest : aim * 1.25) * ratio)) };
}
