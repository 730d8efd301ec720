import { expect, it } from "vitest";
import type { ImageDetail } from "@/api/images";
import { bytesText, differences, durationText, factsOf } from "./facts";

function picture(changes: Partial<ImageDetail> = {}, stage: object = {}): ImageDetail {
  const first = {
    width: 176,
    height: 224,
    steps: 9,
    cfg: 2,
    sampler: "euler_ancestral",
    schedule: "simple",
    shift: 3,
    denoise: 1,
    cache: null,
  };
  const cache = { reuse_threshold: 0.37, start_percent: 0.45, end_percent: 0.95 };
  return {
    id: "img_1",
    job_id: "job_1",
    width: 336,
    height: 432,
    format: "png",
    size_bytes: 87_114,
    sha256: "aa",
    prompt: "a boat",
    seed: "18446744073709551615",
    created_at: 1_795_655_464,
    adapters: [
      {
        name: "ink",
        requested_weight: 0.8,
        status: "partial",
        matched: 12,
        total: 35,
        reason: "",
        sha256: "",
      },
    ],
    warnings: [],
    recipe: {
      request: {
        prompt: "a boat",
        preset: "progressive",
        references: [{ upload: "up_1" }],
        mask: null,
        backend: "native",
      },
      plan: {
        prompt: "a boat",
        negative_prompt: "",
        seed: 7,
        stages: [first, { ...first, width: 336, height: 432, steps: 16, cache, ...stage }],
      },
      checkpoint: "sketchbook",
      checkpoint_sha256: "52bb",
      family: "zimage",
      device: "cpu",
      precision: { transformer: "float32", vae: "float32" },
      outcome: [
        { evaluations: 9, skipped: 0, duration_s: 3 },
        { evaluations: 16, skipped: 5, duration_s: 72.4 },
      ],
      versions: { limner: "0.1.0" },
    },
    ...changes,
  } as unknown as ImageDetail;
}
const facts = (image: ImageDetail) => factsOf(image, "en-GB");
const differing = (left: ImageDetail, right: ImageDetail) =>
  differences(facts(left), facts(right))
    .filter(({ differs }) => differs)
    .map(({ name }) => name);

it("facts say a value once where all stages share it, else each in turn", () => {
  expect(facts(picture())).toMatchObject({
    sampler: "euler_ancestral",
    steps: "9 → 16",
    sizes: "176 × 224 → 336 × 432",
    cache: "– → 0.37 (0.45–0.95)",
    skipped: "0 / 9 → 5 / 16",
    time: "1 min 15 s",
    adapters: "ink × 0.8 (partial, 12/35)",
    references: "up_1",
  });
});

it("what only some families are told is a fact where it was told", () => {
  const told = picture({}, { guidance: 3.5 });
  told.recipe.plan.clip_skip = 2;
  told.recipe.request.references_as = "stitched";
  told.recipe.request.references = [{ upload: "up_1" }, { image: "img_9" }];
  expect(facts(told)).toMatchObject({
    guidance: "– → 3.5",
    clipSkip: "2",
    references: "up_1\nimg_9",
    referencesAs: "stitched",
  });
  expect(facts(picture())).toMatchObject({ referencesAs: "start" });
  expect(facts(picture())).not.toHaveProperty("guidance");
  expect(facts(picture())).not.toHaveProperty("clipSkip");
});

it("facts that do not apply are left out", () => {
  expect(facts(picture())).not.toHaveProperty("negative");
  expect(facts(picture())).not.toHaveProperty("mask");
  expect(facts(picture())).not.toHaveProperty("warnings");
});

it("a seed beyond JavaScript's numbers keeps its digits", () => {
  expect(facts(picture()).seed).toBe("18446744073709551615");
});

it("two pictures of one recipe differ in nothing", () => {
  expect(differing(picture(), picture({ id: "img_2" }))).toEqual([]);
});

it("what differs is named, also where only one of the two has it", () => {
  expect(differing(picture(), picture({ seed: "8", adapters: [] }, { sampler: "heun" }))).toEqual([
    "seed",
    "sampler",
    "adapters",
  ]);
  const [warnings] = differences(facts(picture()), facts(picture({ warnings: ["not quite"] }))).filter(
    ({ name }) => name === "warnings",
  );
  expect(warnings).toEqual({ name: "warnings", left: "", right: "not quite", differs: true });
});

it("sizes and times are for people", () => {
  expect(bytesText(87_114, "en-GB")).toBe("87 kB");
  expect(bytesText(1_250_000, "en-GB")).toBe("1.3 MB");
  expect(durationText(8.04)).toBe("8.0 s");
});
