/** The mask under the brush: what was painted, drawn on a canvas, and how it becomes a file. */

import { type RefObject, useCallback, useEffect, useRef, useState } from "react";
import { type Act, BLANK, done, type Painting, perform, redo, undo, visible } from "./strokes";

export const COLOUR = "#6a3df0";

export type Mask = ReturnType<typeof useMask>;

/**
 * Args: the canvas, its size, and the address of an earlier mask to go on with (white is painted anew).
 * The canvas is opaque where the picture is painted anew.
 */
export function useMask(
  canvas: RefObject<HTMLCanvasElement | null>,
  size: { width: number; height: number } | null,
  earlier: string | null,
) {
  const [painting, setPainting] = useState<Painting>(BLANK);
  const base = useRef<HTMLCanvasElement | null>(null);
  const [isReady, setReady] = useState(earlier === null);

  useEffect(() => {
    if (!size || !earlier) return;
    let isStale = false;
    asOpacity(earlier, size).then(
      (read) => {
        if (isStale) return;
        base.current = read;
        setReady(true);
      },
      () => setReady(true), // it is gone: one begins anew
    );
    return () => {
      isStale = true;
    };
  }, [size, earlier]);

  const redraw = useCallback(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    const acts = visible(painting.acts);
    if (base.current && acts.length === painting.acts.length && acts[0]?.kind !== "clear")
      context.drawImage(base.current, 0, 0);
    for (const act of acts) perform(context, act, COLOUR);
  }, [canvas, painting]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a canvas of another size is empty, an earlier mask shows when it is read
  useEffect(redraw, [redraw, size, isReady]);

  return {
    redraw,
    add: useCallback((act: Act) => setPainting((now) => done(now, act)), []),
    undo: useCallback(() => setPainting(undo), []),
    redo: useCallback(() => setPainting(redo), []),
    canUndo: painting.acts.length > 0,
    canRedo: painting.undone.length > 0,
  };
}

/** A mask's file: white on black where the canvas is opaque; null where nothing is painted anew. */
export async function asFile(canvas: HTMLCanvasElement): Promise<Blob | null> {
  const { width, height } = canvas;
  const file = new OffscreenCanvas(width, height);
  const context = file.getContext("2d");
  if (!context) return null;
  context.drawImage(canvas, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  let isEmpty = true;
  for (let at = 0; at < pixels.data.length; at += 4) {
    const share = pixels.data[at + 3] ?? 0;
    if (share > 0) isEmpty = false;
    pixels.data.set([share, share, share, 255], at);
  }
  if (isEmpty) return null;
  context.putImageData(pixels, 0, 0);
  return file.convertToBlob({ type: "image/png" });
}

async function asOpacity(
  url: string,
  { width, height }: { width: number; height: number },
): Promise<HTMLCanvasElement> {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at] ?? 0;
  context.putImageData(pixels, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = COLOUR;
  context.fillRect(0, 0, width, height);
  return canvas;
}
