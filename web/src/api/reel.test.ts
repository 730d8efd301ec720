import { expect, it } from "vitest";
import type { Schemas } from "./client";
import { appended, type Reel, refreshed } from "./reel";

const images = (names: string) =>
  [...names].map((id) => ({ id, favourite: false })) as unknown as Schemas["ImageView"][];
const page = (names: string, next: string | null = null) => ({ images: images(names), next_cursor: next });
const ids = (reel: Reel) => reel.images.map(({ id }) => id).join("");
const three = () =>
  appended(appended(refreshed(undefined, page("abc", "1")), "1", page("def", "2")), "2", page("gh"));

it("grows page by page to its end", () => {
  expect(ids(three())).toBe("abcdefgh");
  expect(three().next).toBeNull();
});

it("takes a page once, and no picture twice", () => {
  const two = appended(refreshed(undefined, page("abc", "1")), "1", page("cde", "2"));
  expect(ids(two)).toBe("abcde");
  expect(appended(two, "1", page("cde", "2"))).toBe(two);
});

it("shows new pictures at its beginning and keeps what it has reached", () => {
  expect(ids(refreshed(three(), page("xyabc", "1")))).toBe("xyabcdefgh");
});

it("drops what has gone from its beginning", () => {
  expect(ids(refreshed(three(), page("acd", "1")))).toBe("acdefgh");
});

it("begins anew where so much is new that nothing meets", () => {
  const fresh = refreshed(three(), page("xyz", "9"));
  expect([ids(fresh), fresh.next]).toEqual(["xyz", "9"]);
});

it("is what the first page says when that is the only one", () => {
  expect(ids(refreshed(three(), page("ab")))).toBe("ab");
});

it("takes a fresh last page, where new pictures are when the oldest come first", () => {
  const fresh = refreshed(three(), page("abc", "1"), page("ghi"));
  expect(ids(fresh)).toBe("abcdefghi");
  expect(ids(refreshed(fresh, page("abc", "1"), page("ghijk", "3")))).toBe("abcdefghijk");
});

it("keeps the objects of pictures that have not changed, and takes those that have", () => {
  const known = three();
  const marked = page("abc", "1");
  marked.images[1] = { ...(marked.images[1] as Schemas["ImageView"]), favourite: true };
  const fresh = refreshed(known, marked);
  expect(fresh.images[0]).toBe(known.images[0]);
  expect(fresh.images[1]?.favourite).toBe(true);
});
