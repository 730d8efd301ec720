/**
 * What was painted on a mask, as a list of acts: undo takes the last one back, and a canvas shows them by doing them in
 * order. White is painted anew, black stays. Pure but for `perform`, which draws.
 */

export type Point = { x: number; y: number };
export type Stroke = { kind: "stroke"; points: readonly Point[]; size: number; erases: boolean };
export type Act = Stroke | { kind: "fill" } | { kind: "clear" } | { kind: "invert" };
export type Painting = { acts: readonly Act[]; undone: readonly Act[] };

export const BLANK: Painting = { acts: [], undone: [] };
const SMALLEST = 4;
const LARGEST = 400;

export function done({ acts }: Painting, act: Act): Painting {
  return { acts: [...acts, act], undone: [] };
}

export function undo({ acts, undone }: Painting): Painting {
  const last = acts.at(-1);
  return last ? { acts: acts.slice(0, -1), undone: [...undone, last] } : { acts, undone };
}

export function redo({ acts, undone }: Painting): Painting {
  const next = undone.at(-1);
  return next ? { acts: [...acts, next], undone: undone.slice(0, -1) } : { acts, undone };
}

/** What still shows: nothing before the last fill or clear does. */
export function visible(acts: readonly Act[]): readonly Act[] {
  const last = acts.findLastIndex(({ kind }) => kind === "fill" || kind === "clear");
  return last < 0 ? acts : acts.slice(last);
}

/** A brush of another size: a fifth more or less, so that small ones change finely. */
export function resizedBrush(size: number, larger: boolean): number {
  const next = larger ? Math.max(size + 1, size * 1.2) : Math.min(size - 1, size / 1.2);
  return Math.round(Math.min(LARGEST, Math.max(SMALLEST, next)));
}

/** A place on the screen as a place on the picture. */
export function placed(
  screen: Point,
  box: { left: number; top: number; width: number; height: number },
  picture: { width: number; height: number },
): Point {
  return {
    x: ((screen.x - box.left) / box.width) * picture.width,
    y: ((screen.y - box.top) / box.height) * picture.height,
  };
}

/** Does one act on a canvas whose opaque pixels are painted anew. */
export function perform(context: CanvasRenderingContext2D, act: Act, colour: string): void {
  const { width, height } = context.canvas;
  context.globalCompositeOperation = "source-over";
  context.fillStyle = colour;
  if (act.kind === "clear") context.clearRect(0, 0, width, height);
  else if (act.kind === "fill") context.fillRect(0, 0, width, height);
  else if (act.kind === "invert") {
    context.globalCompositeOperation = "source-out";
    context.fillRect(0, 0, width, height);
  } else drawStroke(context, act, colour);
  context.globalCompositeOperation = "source-over";
}

function drawStroke(context: CanvasRenderingContext2D, act: Stroke, colour: string): void {
  const [first, ...rest] = act.points;
  if (!first) return;
  context.globalCompositeOperation = act.erases ? "destination-out" : "source-over";
  context.strokeStyle = colour;
  context.lineWidth = act.size;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  context.moveTo(first.x, first.y);
  for (const { x, y } of rest.length ? rest : [first]) context.lineTo(x, y);
  context.stroke();
}
