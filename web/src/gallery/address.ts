/** The gallery's address: what of it is understood; the rest is dropped. Pure. */

/** What the gallery shows: filters, the picture that is open, the pictures that are compared. */
export type GallerySearch = {
  q?: string;
  model?: string;
  adapter?: string;
  shape?: "portrait" | "landscape" | "square";
  favourite?: boolean;
  /** Days such as "2026-11-26", both included. */
  from?: string;
  to?: string;
  order?: "oldest";
  image?: string;
  compare?: string;
  job?: string;
};

const texts = ["q", "model", "adapter", "image", "compare", "job"] as const;
const days = ["from", "to"] as const;
const shapes = ["portrait", "landscape", "square"] as const;

export function gallerySearch(given: Record<string, unknown>): GallerySearch {
  const search: GallerySearch = {};
  for (const name of texts) {
    const value = typeof given[name] === "number" ? String(given[name]) : given[name]; // the parser reads "7" as a number
    if (typeof value === "string" && value !== "") search[name] = value;
  }
  for (const name of days) {
    const day = given[name];
    if (typeof day === "string" && /^\d{4}-\d\d-\d\d$/.test(day) && !Number.isNaN(Date.parse(day)))
      search[name] = day;
  }
  const shape = shapes.find((known) => known === given.shape);
  if (shape) search.shape = shape;
  if (given.favourite === true) search.favourite = true;
  if (given.order === "oldest") search.order = "oldest";
  return search;
}
