import { EMPTY, type Form } from "./form";
import { useChoices } from "./useChoices";

const ADVANCED = [
  "negativePrompt",
  "seed",
  "model",
  "size",
  "steps",
  "cfg",
  "guidance",
  "clipSkip",
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
  const { fitting } = useChoices();
  return ADVANCED.filter((name) => fitting[name] !== EMPTY[name]).length;
}
