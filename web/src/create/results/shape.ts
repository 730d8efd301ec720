/** The sizes that a job's pictures will have, told from its request and the presets before anything is painted. */

import type { Model, Preset } from "@/api/catalog";
import type { GenerationRequest } from "@/api/jobs";
import { presetFor } from "@/create/presets";

export type Size = { width: number; height: number };

const MULTIPLE = 16;
const USUAL: Size = { width: 3, height: 4 };

export type Catalog = {
  models: readonly (Pick<Model, "name" | "preset" | "size"> & { edits?: boolean })[];
  defaultModel: string;
  presets: readonly Pick<Preset, "name" | "stages" | "sizes">[];
  defaultPreset: string;
};

/** The sizes of the stages in their order; empty where nobody can know them, as with a preset that is gone. */
export function stageSizes(request: Partial<GenerationRequest>, catalog: Catalog): Size[] {
  const own = presetOf(request, catalog)?.stages;
  const stages: readonly Size[] | null | undefined = request.stages ?? own;
  const last = stages?.at(-1);
  if (!stages || !last) return [];
  const size = finalSize(request, last);
  return stages.map((stage) => ({
    width: side((stage.width * size.width) / last.width),
    height: side((stage.height * size.height) / last.height),
  }));
}

/** The size of the finished picture; where it is not known, a likely shape. */
export function pictureSize(request: Partial<GenerationRequest>, catalog: Catalog): Size {
  const known = stageSizes(request, catalog).at(-1);
  if (known) return known;
  const model = catalog.models.find(({ name }) => name === (request.model ?? catalog.defaultModel));
  return finalSize(request, model?.size ?? USUAL);
}

/** The preset that a request goes by, named or not. */
export function presetName(request: Partial<GenerationRequest>, catalog: Catalog): string {
  const model = catalog.models.find(({ name }) => name === (request.model ?? catalog.defaultModel));
  const looks = Boolean(request.references?.length) && request.references_as !== "start";
  return request.preset ?? presetFor(model, looks, catalog.defaultPreset) ?? "";
}

function presetOf(request: Partial<GenerationRequest>, catalog: Catalog) {
  const wanted = presetName(request, catalog);
  return catalog.presets.find(({ name }) => name === wanted);
}

function finalSize(request: Partial<GenerationRequest>, usual: Size): Size {
  if (request.width && request.height) return { width: request.width, height: request.height };
  const [across, down] = (request.aspect_ratio ?? "").split(":").map(Number);
  if (!across || !down) return usual;
  const area = usual.width * usual.height;
  const size = { width: Math.sqrt((area * across) / down), height: Math.sqrt((area * down) / across) };
  return area < MULTIPLE ** 2 * 4 ? size : { width: side(size.width), height: side(size.height) };
}

function side(exact: number): number {
  return Math.max(MULTIPLE, Math.round(exact / MULTIPLE) * MULTIPLE);
}
