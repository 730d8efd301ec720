/** How far to leave a picture, and what a mask makes of it. */

import type { Form, Picked } from "../form";

/** What is masked is painted anew, nearly without a look at what is there; where nobody chose otherwise. */
export const MASKED = 0.95;

/** The changes that a mask brings into the form, or its removal. */
export function masked({ mask: before, denoise }: Form, mask: Picked | null): Partial<Form> {
  if (mask) return { mask, ...(denoise === null ? { denoise: MASKED } : {}) };
  return { mask, ...(before && denoise === MASKED ? { denoise: null } : {}) };
}

/** How far to leave the reference, as a key of `strength.*`. */
export function strengthWord(denoise: number): "close" | "some" | "much" | "anew" {
  if (denoise < 0.4) return "close";
  if (denoise < 0.65) return "some";
  return denoise < 0.9 ? "much" : "anew";
}
