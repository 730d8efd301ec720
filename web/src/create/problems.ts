/** Which fields of the form an error of the server is about. Pure. */

import { ApiError } from "@/api/client";

/** What the server found wrong, by the request's field names, nested ones joined by dots: `stages.0.width`. */
export function fieldErrors(error: unknown): Record<string, string> {
  if (!(error instanceof ApiError) || error.status < 400 || error.status >= 500) return {};
  const { fields } = error.details;
  if (typeof fields === "object" && fields !== null) return fields as Record<string, string>;
  const named = Object.keys(error.details).find((name) => NAMED.has(name));
  return named === undefined ? {} : { [named]: error.message };
}

/** Fields that an error may name by its details alone. */
const NAMED = new Set([
  "aspect_ratio",
  "denoise",
  "steps",
  "cfg",
  "guidance",
  "clip_skip",
  "references_as",
  "preset",
  "sampler",
  "schedule",
  "shift",
  "seed",
  "mask",
  "backend",
]);

/** The first complaint about a field or anything inside it. */
export function about(errors: Record<string, string>, field: string): string | undefined {
  return Object.entries(errors).find(([name]) => name === field || name.startsWith(`${field}.`))?.[1];
}
