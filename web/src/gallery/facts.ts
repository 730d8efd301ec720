/** What is known of how a picture was made, as a list of facts: to read, to copy, and to compare. Pure. */

import type { ImageDetail } from "@/api/images";

export const FACT_NAMES = [
  "prompt",
  "negative",
  "model",
  "modelHash",
  "family",
  "preset",
  "size",
  "seed",
  "stages",
  "sizes",
  "sampler",
  "schedule",
  "steps",
  "cfg",
  "guidance",
  "clipSkip",
  "shift",
  "denoise",
  "cache",
  "skipped",
  "adapters",
  "references",
  "referencesAs",
  "mask",
  "warnings",
  "backend",
  "device",
  "precision",
  "time",
  "created",
  "format",
  "fileSize",
  "fileHash",
  "job",
  "versions",
] as const;
export type FactName = (typeof FACT_NAMES)[number];
export type Facts = Partial<Record<FactName, string>>;
export type Difference = { name: FactName; left: string; right: string; differs: boolean };

/** The facts of a picture as texts; what does not apply is left out. Of several stages, the values in turn. */
export function factsOf(image: ImageDetail, language: string): Facts {
  const { recipe } = image;
  const { request, plan, outcome } = recipe;
  const each = (value: (stage: (typeof plan.stages)[number]) => string | number | null | undefined) =>
    inTurn(plan.stages.map((stage) => text(value(stage))));
  const facts: Record<FactName, string> = {
    prompt: image.prompt,
    negative: plan.negative_prompt ?? "",
    model: recipe.checkpoint,
    modelHash: recipe.checkpoint_sha256,
    family: recipe.family,
    preset: request.preset ?? "",
    size: sizeText(image.width, image.height),
    seed: image.seed,
    stages: plan.stages.length > 1 ? String(plan.stages.length) : "",
    sizes: plan.stages.length > 1 ? each(({ width, height }) => sizeText(width, height)) : "",
    sampler: each(({ sampler }) => sampler),
    schedule: each(({ schedule }) => schedule),
    steps: each(({ steps }) => steps),
    cfg: each(({ cfg }) => cfg),
    guidance: each(({ guidance }) => guidance),
    clipSkip: plan.clip_skip ? String(plan.clip_skip) : "",
    shift: each(({ shift }) => shift),
    denoise: each(({ denoise }) => denoise),
    cache: plan.stages.some(({ cache }) => cache) ? each(({ cache }) => cacheText(cache)) : "",
    skipped: outcome?.some(({ skipped }) => skipped)
      ? inTurn(outcome.map(({ skipped, evaluations }) => `${skipped} / ${evaluations}`))
      : "",
    adapters: image.adapters.map(adapterText).join("\n"),
    references: (request.references ?? []).map(sourceText).join("\n"),
    referencesAs: request.references?.length ? (request.references_as ?? "start") : "",
    mask: request.mask ? sourceText(request.mask) : "",
    warnings: image.warnings.join("\n"),
    backend: request.backend ?? "",
    device: recipe.device,
    precision: precisionText(recipe.precision),
    time: outcome?.length ? durationText(outcome.reduce((sum, { duration_s }) => sum + duration_s, 0)) : "",
    created: momentText(image.created_at, language),
    format: image.format.toUpperCase(),
    fileSize: bytesText(image.size_bytes, language),
    fileHash: image.sha256,
    job: image.job_id,
    versions: Object.entries(recipe.versions ?? {})
      .map((pair) => pair.join(" "))
      .join(", "),
  };
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== ""));
}

/** Every fact that at least one of two pictures has, and whether they differ in it. */
export function differences(left: Facts, right: Facts): Difference[] {
  return FACT_NAMES.filter((name) => left[name] !== undefined || right[name] !== undefined).map((name) => ({
    name,
    left: left[name] ?? "",
    right: right[name] ?? "",
    differs: left[name] !== right[name],
  }));
}

/** Whether the value of `referencesAs` is one that has words. */
export const isWay = (value: string | undefined): value is "start" | "context" | "stitched" =>
  value === "start" || value === "context" || value === "stitched";

export function sizeText(width: number, height: number): string {
  return `${width} × ${height}`;
}

export function durationText(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function momentText(at: number, language: string): string {
  const how: Intl.DateTimeFormatOptions = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, how).format(new Date(at * 1000));
}

export function bytesText(bytes: number, language: string): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  const value = bytes / 1000 ** power;
  return new Intl.NumberFormat(language, {
    style: "unit",
    unit: units[power] as string,
    maximumFractionDigits: value < 10 && power > 1 ? 1 : 0,
  }).format(value);
}

function cacheText(
  cache: NonNullable<ImageDetail["recipe"]["plan"]["stages"][number]["cache"]> | null | undefined,
) {
  return cache ? `${cache.reuse_threshold} (${cache.start_percent}–${cache.end_percent})` : null;
}

function adapterText({
  name,
  requested_weight,
  status,
  matched,
  total,
}: ImageDetail["adapters"][number]): string {
  return `${name} × ${requested_weight} (${status}, ${matched}/${total})`;
}

function sourceText(source: NonNullable<ImageDetail["recipe"]["request"]["mask"]>): string {
  return source.image ?? source.upload ?? source.path ?? source.sha256 ?? "";
}

function precisionText(precision: Record<string, string>): string {
  const kinds = [...new Set(Object.values(precision))];
  if (kinds.length < 2) return kinds.join("");
  return Object.entries(precision)
    .map((pair) => pair.join(" "))
    .join(", ");
}

function text(value: string | number | null | undefined): string {
  return value === null || value === undefined ? "–" : String(value);
}

/** One value where all are the same, else each in turn. */
function inTurn(values: string[]): string {
  if (values.every((value) => value === values[0])) return values[0] === "–" ? "" : (values[0] ?? "");
  return values.join(" → ");
}
