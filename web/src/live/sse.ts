/**
 * Server-sent events over `fetch`. The browser's own `EventSource` hides the comments that fill silence, and so a line
 * that is dead without having been closed, as behind some proxies, would never be noticed.
 */

/** Cuts a stream's text into the `data` of its events; comments and unfinished events give nothing. */
export function makeParser(): (text: string) => string[] {
  let rest = "";
  return (text) => {
    const blocks = (rest + text).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop() ?? "";
    return blocks
      .map((block) =>
        block
          .split("\n")
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(line[5] === " " ? 6 : 5))
          .join("\n"),
      )
      .filter((data) => data !== "");
  };
}

type Told = { onOpen: () => void; onData: (data: string) => void };

/** Reads until the line ends, or is silent for `silenceMs`. Throws unless the server answers with a stream. */
export async function readStream(
  url: string,
  silenceMs: number,
  signal: AbortSignal,
  told: Told,
): Promise<void> {
  const line = new AbortController();
  const close = () => line.abort();
  let timer = window.setTimeout(close, silenceMs);
  signal.addEventListener("abort", close);
  try {
    const response = await fetch(url, {
      headers: { accept: "text/event-stream" },
      cache: "no-store",
      signal: line.signal,
    });
    if (!response.ok || response.body === null)
      throw new Error(`The stream answered with ${response.status}.`);
    told.onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parse = makeParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      window.clearTimeout(timer);
      timer = window.setTimeout(close, silenceMs);
      for (const data of parse(value)) told.onData(data);
    }
  } finally {
    window.clearTimeout(timer);
    signal.removeEventListener("abort", close);
    line.abort();
  }
}
