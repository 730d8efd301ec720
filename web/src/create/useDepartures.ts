import { EMPTY, type Form, useForm } from "./form";

const ADVANCED = [
  "negativePrompt",
  "seed",
  "model",
  "size",
  "steps",
  "cfg",
  "sampler",
  "schedule",
  "shift",
  "cache",
  "stages",
  "format",
  "priority",
  "backend",
  "onAdapterMismatch",
] as const satisfies readonly (keyof Form)[];

/** How many of the advanced fields are not as they are by default: what a fold hides should not be forgotten. */
export function useDepartures(): number {
  return useForm(({ form }) => ADVANCED.filter((name) => form[name] !== EMPTY[name]).length);
}
