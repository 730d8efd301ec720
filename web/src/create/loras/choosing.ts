/** Choosing LoRAs: each brings its trigger words into the prompt, and takes them along when it goes. Pure. */

import type { Adapter } from "@/api/catalog";
import type { Form } from "../form";
import { withoutTrigger, withTrigger } from "./triggers";

type Changes = Pick<Form, "adapters" | "prompt">;

export function chosen(form: Changes, adapter: Adapter): Changes {
  if (form.adapters.some(({ name }) => name === adapter.name)) return form;
  return {
    adapters: [...form.adapters, { name: adapter.name, weight: 1, trigger: "" }],
    prompt: withTrigger(form.prompt, adapter.trigger),
  };
}

export function dropped(form: Changes, name: string, trigger: string): Changes {
  return {
    adapters: form.adapters.filter((choice) => choice.name !== name),
    prompt: withoutTrigger(form.prompt, trigger),
  };
}

export function weighted(form: Changes, name: string, weight: number): Pick<Form, "adapters"> {
  return { adapters: form.adapters.map((choice) => (choice.name === name ? { ...choice, weight } : choice)) };
}
