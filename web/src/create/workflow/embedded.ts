/** Reads the workflow that ComfyUI writes into its PNG pictures: the chunk `prompt` of what ran, else `workflow`. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const KEYWORDS = ["prompt", "workflow"];

/** The workflow as text, where the picture holds one. */
export async function workflowIn(picture: Blob): Promise<string | undefined> {
  const texts = textsOf(new Uint8Array(await picture.arrayBuffer()));
  return KEYWORDS.map((keyword) => texts.get(keyword)).find((text) => text?.trimStart().startsWith("{"));
}

/** The texts of a PNG by their keywords; compressed ones, which ComfyUI does not write, are passed over. */
export function textsOf(bytes: Uint8Array): Map<string, string> {
  const texts = new Map<string, string>();
  if (SIGNATURE.some((byte, at) => bytes[at] !== byte)) return texts;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (at + 12 + length > bytes.length) break;
    const type = latin(bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + length);
    const [keyword, rest] = cut(body);
    if (type === "tEXt" && rest) texts.set(latin(keyword), latin(rest));
    if (type === "iTXt" && rest?.[0] === 0) {
      const text = cut(cut(rest.subarray(2))[1] ?? new Uint8Array())[1]; // behind a language and a translated keyword
      if (text) texts.set(latin(keyword), new TextDecoder().decode(text));
    }
    at += 12 + length;
  }
  return texts;
}

function cut(bytes: Uint8Array): [Uint8Array, Uint8Array | undefined] {
  const end = bytes.indexOf(0);
  return end < 0 ? [bytes, undefined] : [bytes.subarray(0, end), bytes.subarray(end + 1)];
}

const latin = (bytes: Uint8Array): string => new TextDecoder("latin1").decode(bytes);
