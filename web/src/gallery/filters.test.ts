import { describe, expect, it } from "vitest";
import { type GallerySearch, gallerySearch } from "./address";
import { beginOf } from "./days";
import { activeFilters, changed, toFilter, without } from "./filters";

const EVERY: GallerySearch = {
  q: "red boat",
  model: "sketchbook",
  adapter: "ink",
  shape: "portrait",
  favourite: true,
  from: "2026-11-01",
  to: "2026-11-26",
  job: "job_1",
  order: "oldest",
  image: "img_1",
};

describe("filters of an address", () => {
  it("become what the server understands; a day ends with its last second", () => {
    expect(toFilter(EVERY)).toEqual({
      search: "red boat",
      model: "sketchbook",
      adapter: "ink",
      shape: "portrait",
      favourite: true,
      created_after: beginOf("2026-11-01"),
      created_before: beginOf("2026-11-27"),
      job_id: "job_1",
      order: "oldest",
    });
  });

  it("that are not there ask for nothing, and the open picture is none", () => {
    expect(toFilter({ image: "img_1" })).toEqual({});
    expect(activeFilters({ image: "img_1", order: "oldest" })).toEqual([]);
  });

  it("are taken away one by one, or all", () => {
    expect(activeFilters(EVERY)).toEqual(["q", "model", "adapter", "shape", "favourite", "dates", "job"]);
    expect(without(EVERY, ["dates"])).not.toHaveProperty("from");
    expect(without(EVERY)).toEqual({ order: "oldest", image: "img_1" });
  });

  it("that are emptied leave the address", () => {
    expect(changed(EVERY, { q: "", favourite: null, model: "other" })).toMatchObject({ model: "other" });
    expect(changed({ q: "cat" }, { q: "" })).toEqual({});
  });
});

describe("an address", () => {
  it("keeps what it means and drops the rest", () => {
    expect(gallerySearch(EVERY)).toEqual(EVERY);
    expect(
      gallerySearch({ shape: "round", order: "newest", favourite: "yes", from: "soon", q: "", x: 1 }),
    ).toEqual({});
  });

  it("with a number searches for its digits", () => {
    expect(gallerySearch({ q: 1984 })).toEqual({ q: "1984" });
  });
});
