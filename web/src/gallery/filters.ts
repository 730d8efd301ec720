/** The filters of the address, what they ask the server for, and how they are taken away again. Pure. */

import type { ImageFilter } from "@/api/images";
import type { GallerySearch } from "./address";
import { beginOf } from "./days";

/** A filter that is shown, and can be taken away, on its own. */
export type FilterName = "q" | "model" | "adapter" | "shape" | "favourite" | "dates" | "job";

const FIELDS: Record<FilterName, readonly (keyof GallerySearch)[]> = {
  q: ["q"],
  model: ["model"],
  adapter: ["adapter"],
  shape: ["shape"],
  favourite: ["favourite"],
  dates: ["from", "to"],
  job: ["job"],
};
const NAMES = Object.keys(FIELDS) as FilterName[];

/** What the server is asked for; what is open is left out, so that the same list always has the same key. */
export function toFilter(search: GallerySearch): ImageFilter {
  const filter: ImageFilter = {};
  if (search.q) filter.search = search.q;
  if (search.model) filter.model = search.model;
  if (search.adapter) filter.adapter = search.adapter;
  if (search.shape) filter.shape = search.shape;
  if (search.favourite) filter.favourite = true;
  if (search.from) filter.created_after = beginOf(search.from);
  if (search.to) filter.created_before = beginOf(search.to, 1);
  if (search.job) filter.job_id = search.job;
  if (search.order) filter.order = search.order;
  return filter;
}

export function activeFilters(search: GallerySearch): FilterName[] {
  return NAMES.filter((name) => FIELDS[name].some((field) => search[field] !== undefined));
}

/** The address without these filters; order and what is open stay. */
export function without(search: GallerySearch, names: readonly FilterName[] = NAMES): GallerySearch {
  const left = { ...search };
  for (const name of names) for (const field of FIELDS[name]) delete left[field];
  return left;
}

/** The address with changed fields; empty ones are taken out. */
export function changed(
  search: GallerySearch,
  changes: { [K in keyof GallerySearch]?: GallerySearch[K] | null | "" },
) {
  const entries = Object.entries({ ...search, ...changes });
  return Object.fromEntries(entries.filter(([, value]) => value)) as GallerySearch;
}
