/** A list of pictures that grows at its end and is refreshed at its beginning. Pure. */

import type { Schemas } from "./client";

type Image = Schemas["ImageView"];
type Page = Schemas["ImagePage"];

export type Reel = {
  images: readonly Image[];
  /** Cursor of the page after what is known; null at the end. */
  next: string | null;
  /** Cursor of the last page that is known, and how many pictures lie before it; null when there is one page only. */
  tail: string | null;
  tailAt: number;
};

/** The list with its next page; unchanged when that page was added already. */
export function appended(known: Reel, cursor: string, page: Page): Reel {
  if (known.next !== cursor) return known;
  const ids = new Set(known.images.map(({ id }) => id));
  const fresh = page.images.filter(({ id }) => !ids.has(id));
  return {
    images: [...known.images, ...fresh],
    next: page.next_cursor,
    tail: cursor,
    tailAt: known.images.length,
  };
}

/** The list with a fresh beginning, and a fresh last page where one was fetched. */
export function refreshed(known: Reel | undefined, head: Page, tail?: Page): Reel {
  const last = head.images.at(-1);
  const start: Reel = { images: head.images, next: head.next_cursor, tail: null, tailAt: 0 };
  if (known === undefined || head.next_cursor === null || last === undefined) return start;
  const at = known.images.findIndex(({ id }) => id === last.id);
  if (at < 0 || at === known.images.length - 1) return start; // nothing beyond, or so much is new that nothing meets
  const before = new Map(known.images.map((image) => [image.id, image]));
  const images = [...head.images.map((image) => unlessSame(before.get(image.id), image))];
  const moved = images.length - (at + 1);
  const tailAt = known.tailAt + moved;
  if (tail === undefined) {
    images.push(...known.images.slice(at + 1));
    return { images, next: known.next, tail: known.tail, tailAt };
  }
  images.push(...known.images.slice(at + 1, Math.max(known.tailAt, at + 1)), ...tail.images);
  return { images, next: tail.next_cursor, tail: known.tail, tailAt };
}

/** The object that is shown already, so that its tile need not be drawn again: links are signed anew every time. */
function unlessSame(known: Image | undefined, image: Image): Image {
  return known !== undefined && known.favourite === image.favourite ? known : image;
}
