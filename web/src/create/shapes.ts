/** Shapes and sizes of pictures: the shapes that have a word, and numbers of pixels that can be painted. Pure. */

import type { Preset } from "@/api/catalog";
import type { Form } from "./form";

export type Size = { width: number; height: number };
export type SizeLimits = { min: number; max: number; multiple: number };

/** Shapes in wide use, and the key under which each has its word. */
export const SHAPE_WORDS = {
  "1:1": "square",
  "3:4": "portrait",
  "4:3": "landscape",
  "2:3": "poster",
  "3:2": "photo",
  "9:16": "tall",
  "16:9": "wide",
  "9:21": "scroll",
  "21:9": "panorama",
} as const;
export type Shape = keyof typeof SHAPE_WORDS;
export const SHAPES = Object.keys(SHAPE_WORDS) as Shape[];

export const isShape = (text: string | null): text is Shape => SHAPES.some((shape) => shape === text);

/** Width through height of a text such as "16:9". */
export function ratioOf(shape: string): number {
  const [across, down] = shape.split(":").map(Number);
  return (across ?? 1) / (down ?? 1);
}

/** The nearest number of pixels that can be painted. */
export function snapped(side: number, { min, max, multiple }: SizeLimits): number {
  const rounded = Math.round(side / multiple) * multiple;
  return Math.min(Math.floor(max / multiple) * multiple, Math.max(min, rounded));
}

export const swapped = ({ width, height }: Size): Size => ({ width: height, height: width });

/** The word-worthy shape that a size has, within what rounding to 16 pixels changes. */
export function shapeOf({ width, height }: Size): Shape | null {
  return SHAPES.find((shape) => Math.abs(Math.log(width / height / ratioOf(shape))) < 0.035) ?? null;
}

/** The size of the finished picture, as far as the page can tell; null while the preset is not known. */
export function finishedSize(form: Form, preset: Preset | undefined): Size | null {
  const own = form.stages?.at(-1);
  if (own) return { width: own.width, height: own.height };
  if (form.size) return form.size;
  if (form.aspectRatio) {
    const known = preset?.sizes?.[form.aspectRatio];
    if (known) return known;
  }
  const last = preset?.stages?.at(-1);
  if (!last) return null;
  if (!form.aspectRatio) return { width: last.width, height: last.height };
  return sizeOfShape(form.aspectRatio, last);
}

/** A size of that shape with about the same area, in multiples of 16. */
export function sizeOfShape(shape: string, { width, height }: Size): Size {
  const area = width * height;
  const limits = { min: 64, max: 4096, multiple: 16 };
  return {
    width: snapped(Math.sqrt(area * ratioOf(shape)), limits),
    height: snapped(Math.sqrt(area / ratioOf(shape)), limits),
  };
}

/**
 * The size to paint a picture of this size anew without cutting it: its own, or where that is more than four times what
 * would be painted otherwise, the same shape with as many pixels as that.
 */
export function sizeLike(picture: Size, planned: Size, limits: SizeLimits): Size {
  const share = (planned.width * planned.height) / (picture.width * picture.height);
  const scale = share < 1 / 4 ? Math.sqrt(share) : 1;
  return { width: snapped(picture.width * scale, limits), height: snapped(picture.height * scale, limits) };
}

/** Whether a picture loses more than a sliver of an edge where it is brought to this size. */
export function isCut(picture: Size, { width, height }: Size): boolean {
  return Math.abs(Math.log(picture.width / picture.height / (width / height))) > 0.035;
}

/** Sides of a drawn shape that fits into a box of so many pixels. */
export function drawn(ratio: number, box: number): Size {
  return ratio >= 1 ? { width: box, height: box / ratio } : { width: box * ratio, height: box };
}
