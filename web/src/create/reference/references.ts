/** The pictures that a new one is made from, as a list that grows and shrinks. Pure. */

import type { Choices } from "../choices";
import type { Form, Picked } from "../form";
import { masked } from "./strength";

/**
 * The changes that another picture brings: it is the next one to look at, or takes the place of the one that is painted
 * over. Another picture has another mask, so that the old one goes. Without room for more, nothing changes.
 */
export function added(
  choices: Pick<Choices, "form" | "referencesAs" | "limits">,
  picture: Picked,
): Partial<Form> {
  const { form, referencesAs, limits } = choices;
  const { references } = form;
  if (referencesAs === "start")
    return { references: [picture, ...references.slice(1)], ...masked(form, null) };
  return { references: [...references, picture].slice(0, limits.max_references) };
}

/** Without the picture at that place. With the first one its mask and strength go, with the last one what they were for. */
export function removed(form: Form, at: number): Partial<Form> {
  const references = form.references.filter((_, place) => place !== at);
  return {
    references,
    ...(at === 0 ? { mask: null, denoise: null } : {}),
    ...(references.length === 0 ? { referencesAs: null } : {}),
  };
}
