/** Names of files that are saved. */

const LONGEST = 60;

/** Such as `a-red-boat-on-the-sea-1346953263370168.png`: words of any language stay readable. */
export function fileName(prompt: string, seed: string, format: string): string {
  const words = prompt
    .normalize("NFC")
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}]+/gu, "-");
  const short = Array.from(words.replace(/^-+/, "")).slice(0, LONGEST).join("").replace(/-+$/, "");
  return `${short || "picture"}-${seed}.${format === "jpeg" ? "jpg" : format}`;
}
