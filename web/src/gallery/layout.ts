/** Rows of pictures of one height that fill the width, under the days that they were painted on. Pure. */

export type Placed = { id: string; width: number; height: number; created_at: number };

export type DayLine = { kind: "day"; key: string; top: number; height: number; day: string; start: number };
export type RowLine = {
  kind: "row";
  key: string;
  top: number;
  /** With the gap below; the pictures are `pictureHeight` high. */
  height: number;
  pictureHeight: number;
  /** The pictures from `start` to before `end`, and how wide each is. */
  start: number;
  end: number;
  widths: number[];
};
export type Line = DayLine | RowLine;

export type Frame = {
  /** Pixels to fill. */
  width: number;
  /** Height that a row should have, about. */
  target: number;
  gap: number;
  dayHeight: number;
};

// Panoramas and towers are cut, so that one of them does not take a row, or vanish in one.
const NARROWEST = 0.45;
const WIDEST = 2.6;
const TALLEST_ROW = 1.4;

/** All lines from the top. `dayOf` names the day of a moment; the lines of a day follow its heading. */
export function lines(images: readonly Placed[], frame: Frame, dayOf: (at: number) => string): Line[] {
  const made: Line[] = [];
  if (frame.width <= 0) return made;
  let top = 0;
  let start = 0;
  while (start < images.length) {
    const first = images[start] as Placed;
    const day = dayOf(first.created_at);
    let end = start + 1;
    while (end < images.length && dayOf((images[end] as Placed).created_at) === day) end++;
    made.push({ kind: "day", key: `day-${first.id}`, top, height: frame.dayHeight, day, start });
    top += frame.dayHeight;
    for (const row of rows(images, start, end, frame)) {
      const height = row.pictureHeight + frame.gap;
      made.push({ kind: "row", key: `row-${(images[row.start] as Placed).id}`, top, height, ...row });
      top += height;
    }
    start = end;
  }
  return made;
}

function rows(images: readonly Placed[], from: number, to: number, frame: Frame) {
  const made: Pick<RowLine, "start" | "end" | "pictureHeight" | "widths">[] = [];
  let start = from;
  while (start < to) {
    let end = start;
    let aspects = 0;
    let height = Number.POSITIVE_INFINITY;
    while (end < to && height > frame.target) {
      const wider = aspects + aspect(images[end] as Placed);
      const lower = (frame.width - frame.gap * (end - start)) / wider;
      // The row that comes nearer to the wanted height: with this picture, or without it.
      if (
        lower < frame.target &&
        height <= frame.target * TALLEST_ROW &&
        height - frame.target < frame.target - lower
      )
        break;
      aspects = wider;
      height = lower;
      end++;
    }
    const full = height <= frame.target * TALLEST_ROW;
    const pictureHeight = Math.round(full ? height : frame.target);
    made.push({
      start,
      end,
      pictureHeight,
      widths: widths(images, start, end, full ? height : frame.target, frame, full),
    });
    start = end;
  }
  return made;
}

/** Whole pixels; in a full row they and the gaps add up to the width exactly. */
function widths(
  images: readonly Placed[],
  start: number,
  end: number,
  height: number,
  { width, gap }: Frame,
  full: boolean,
): number[] {
  const made: number[] = [];
  let exact = 0;
  let used = 0;
  for (let at = start; at < end; at++) {
    exact += aspect(images[at] as Placed) * height;
    const last = full && at === end - 1;
    const edge = last ? width - gap * (end - start - 1) : Math.round(exact);
    made.push(edge - used);
    used = edge;
  }
  return made;
}

function aspect({ width, height }: Placed): number {
  return Math.min(WIDEST, Math.max(NARROWEST, width / height));
}

/** Height of all lines together. */
export function heightOf(all: readonly Line[]): number {
  const last = all.at(-1);
  return last ? last.top + last.height : 0;
}

/** Index of the line at a height from the top. */
export function lineAt(all: readonly Line[], y: number): number {
  return lastWhere(all, (line) => line.top <= y);
}

/** Index of the line that shows the picture of that index; -1 when there is none. */
export function lineOf(all: readonly Line[], image: number): number {
  const at = lastWhere(all, (line) => line.start <= image);
  return all[at]?.kind === "row" ? at : -1;
}

/** The picture above or below one: in the next row, the one whose middle is nearest. */
export function beside(all: readonly Line[], image: number, by: 1 | -1, gap: number): number {
  const at = lineOf(all, image);
  let next = at + by;
  while (all[next]?.kind === "day") next += by;
  const [from, to] = [all[at], all[next]];
  if (from?.kind !== "row" || to?.kind !== "row") return image;
  const middle = middles(from, gap)[image - from.start] as number;
  const distances = middles(to, gap).map((x) => Math.abs(x - middle));
  return to.start + distances.indexOf(Math.min(...distances));
}

function middles(row: RowLine, gap: number): number[] {
  let left = 0;
  return row.widths.map((width) => {
    const middle = left + width / 2;
    left += width + gap;
    return middle;
  });
}

/** Index of the last line for which that holds; it holds for a beginning of the lines. */
function lastWhere(all: readonly Line[], holds: (line: Line) => boolean): number {
  let low = 0;
  let high = all.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(all[middle] as Line)) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
