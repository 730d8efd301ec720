/** Walking through the prompts that were sent, without losing the one that is being written. Pure. */

/** Where somebody stands: `at` 0 is the newest prompt; `draft` is what was written before the walk began. */
export type Walk = { at: number; draft: string };

/**
 * One step, `older` or back; null where there is nothing to go to.
 * A prompt that was changed on the way counts as a new draft, so that nothing typed is lost.
 */
export function walked(
  history: readonly string[],
  walk: Walk | null,
  current: string,
  older: boolean,
): { walk: Walk | null; prompt: string } | null {
  const from = walk && history[walk.at] === current ? walk : null;
  if (!older) {
    if (!from) return null;
    const prompt = history[from.at - 1];
    return prompt === undefined
      ? { walk: null, prompt: from.draft }
      : { walk: { ...from, at: from.at - 1 }, prompt };
  }
  let at = from ? from.at + 1 : 0;
  while (history[at] === current) at++;
  const prompt = history[at];
  return prompt === undefined ? null : { walk: { at, draft: from ? from.draft : current }, prompt };
}
