/** Brings pictures out of the page: one file, or many in a zip. */

import { ApiError, type Problem } from "@/api/client";
import { type Image, imageUrl } from "@/api/images";

export function fileName({ id, format }: Pick<Image, "id" | "format">): string {
  return `${id}.${format === "jpeg" ? "jpg" : format}`;
}

/** Has the browser save what is at an address. */
export function save(url: string, name: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

export function savePicture(image: Image): void {
  save(imageUrl(image.id), fileName(image));
}

/** Fetches a zip of these pictures, and tells how many bytes have come. Throws `ApiError`. */
export async function fetchZip(
  ids: readonly string[],
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<Blob> {
  const response = await fetch("/api/images/zip", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ids }),
    signal,
  }).catch((error: unknown) => {
    throw signal.aborted ? error : unreachable();
  });
  if (!response.ok || response.body === null) {
    const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
    throw new ApiError(problem, response.status);
  }
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  const reader = response.body.getReader();
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      throw signal.aborted ? error : unreachable();
    });
    if (done) return new Blob(pieces, { type: "application/zip" });
    pieces.push(value);
    bytes += value.length;
    onBytes(bytes);
  }
}

function unreachable(): ApiError {
  return new ApiError({ code: "unreachable", detail: "The server does not answer.", retryable: true }, 0);
}
