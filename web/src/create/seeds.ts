/** Seeds as texts of digits: numbers here are exact to 2^53 only, seeds go to 2^64. Pure but for the dice. */

const LARGEST = 2n ** 64n - 1n;

export const isSeed = (text: string): boolean => /^\d{1,20}$/.test(text) && BigInt(text) <= LARGEST;

/** Without the spaces and zeros in front that come with pasting. */
export function tidySeed(text: string): string {
  const digits = text.replace(/[\s,_]/g, "");
  return /^\d+$/.test(digits) ? digits.replace(/^0+(?=\d)/, "") : digits;
}

/** A seed at random; ten digits are easy to write down and enough. */
export function diced(): string {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return String(number ?? 0);
}
