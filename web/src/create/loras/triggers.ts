/** Trigger words of LoRAs inside the prompt, so that what is painted is what can be read. Pure. */

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function pattern(trigger: string): RegExp {
  const words = trigger.trim().split(/\s+/).map(escaped).join("\\s+");
  return new RegExp(`(?<![\\p{L}\\p{N}])${words}(?![\\p{L}\\p{N}])`, "iu");
}

export function hasTrigger(prompt: string, trigger: string): boolean {
  return trigger.trim() !== "" && pattern(trigger).test(prompt);
}

/** The prompt with the words in front; the same where it has them already. */
export function withTrigger(prompt: string, trigger: string): string {
  const words = trigger.trim();
  if (words === "" || hasTrigger(prompt, words)) return prompt;
  return prompt.trim() === "" ? words : `${words}, ${prompt}`;
}

/** The prompt without the words, and without the comma that they leave behind. */
export function withoutTrigger(prompt: string, trigger: string): string {
  if (!hasTrigger(prompt, trigger)) return prompt;
  const found = pattern(trigger).exec(prompt);
  if (!found) return prompt;
  const before = prompt.slice(0, found.index).replace(/[\s,，]+$/u, "");
  const after = prompt.slice(found.index + found[0].length).replace(/^[\s,，]+/u, "");
  if (before === "" || after === "") return before + after;
  return /[,，]\s*$/u.test(prompt.slice(0, found.index)) ? `${before}, ${after}` : `${before} ${after}`;
}
