/**
 * Which part of a picture is seen. The scale is relative to the fitted picture and the centre is a part of its width
 * and height, so that one view shows the same part of two pictures of different size. Pure.
 */

export type View = { scale: number; x: number; y: number };
export type Size = { width: number; height: number };

export const FITTED: View = { scale: 1, x: 0.5, y: 0.5 };

// Small pictures are enlarged to fill the pane, but not until they are nothing but blur.
const MOST_ENLARGED = 2;
const CLOSEST = 8;

/** Size of the whole picture in the pane. */
export function fitted(picture: Size, pane: Size): Size {
  const ratio = Math.min(pane.width / picture.width, pane.height / picture.height, MOST_ENLARGED);
  return { width: picture.width * ratio, height: picture.height * ratio };
}

/** The scale at which a pixel of the picture is that many pixels of the screen wide. */
export function scaleFor(times: number, picture: Size, pane: Size, pixelRatio = 1): number {
  return (times * picture.width) / pixelRatio / fitted(picture, pane).width;
}

/** The view with another scale; the point of the picture under `at`, in pixels from the pane's centre, stays there. */
export function zoomed(
  view: View,
  scale: number,
  at: { x: number; y: number },
  picture: Size,
  pane: Size,
): View {
  const fit = fitted(picture, pane);
  const one = scaleFor(1, picture, pane);
  const next = Math.min(Math.max(1, one * CLOSEST), Math.max(Math.min(1, one), scale));
  const moved = (centre: number, offset: number, length: number) =>
    centre + offset / (length * view.scale) - offset / (length * next);
  return bounded(
    { scale: next, x: moved(view.x, at.x, fit.width), y: moved(view.y, at.y, fit.height) },
    picture,
    pane,
  );
}

/** The view after the picture was dragged by so many pixels. */
export function panned(view: View, by: { x: number; y: number }, picture: Size, pane: Size): View {
  const fit = fitted(picture, pane);
  const x = view.x - by.x / (fit.width * view.scale);
  const y = view.y - by.y / (fit.height * view.scale);
  return bounded({ ...view, x, y }, picture, pane);
}

/** Without empty space beside the picture where there need not be any. */
export function bounded(view: View, picture: Size, pane: Size): View {
  const fit = fitted(picture, pane);
  const within = (centre: number, length: number, room: number) => {
    const half = room / (2 * length * view.scale);
    return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, centre));
  };
  return {
    scale: view.scale,
    x: within(view.x, fit.width, pane.width),
    y: within(view.y, fit.height, pane.height),
  };
}

/** Where the picture lies in the pane, in pixels. */
export function place(view: View, picture: Size, pane: Size): Size & { left: number; top: number } {
  const fit = fitted(picture, pane);
  const [width, height] = [fit.width * view.scale, fit.height * view.scale];
  return { width, height, left: pane.width / 2 - view.x * width, top: pane.height / 2 - view.y * height };
}
