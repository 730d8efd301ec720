/**
 * The form's request as programs that can be pasted: curl, Python over HTTP, Python with OpenAI's package, JavaScript.
 * Pure text. Every value of the request goes through the escaping of its language here and nowhere else.
 */

import type { JobBody } from "@/api/jobs";

type Request = Partial<JobBody>;
export type Size = { width: number; height: number };

/** JSON over several lines. Seeds that JavaScript holds exactly are numbers, larger ones stay texts. */
export function json(request: Request): string {
  return JSON.stringify(withNumbers(request), null, 2);
}

/** Any text in single quotes for a POSIX shell. */
export const shellQuoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** A JSON value as a Python literal; texts escaped by JSON read the same in Python. */
export function pythonLiteral(value: unknown, indent = 0): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = " ".repeat(indent + 4);
  const outer = " ".repeat(indent);
  const lines = Array.isArray(value)
    ? value.map((item) => `${inner}${pythonLiteral(item, indent + 4)},`)
    : Object.entries(value).map(
        ([key, item]) => `${inner}${JSON.stringify(key)}: ${pythonLiteral(item, indent + 4)},`,
      );
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return lines.length === 0 ? `${open}${close}` : `${open}\n${lines.join("\n")}\n${outer}${close}`;
}

const ending = (request: Request): string =>
  request.output?.format === "jpeg" ? "jpg" : (request.output?.format ?? "png");

/** Asks, waits up to five minutes, keeps the answer in `job.json`, and fetches each picture. */
export function curl(server: string, request: Request): string {
  return `server=${shellQuoted(server)}
curl -sS "$server/api/jobs?wait=300" \\
  -H 'Content-Type: application/json' \\
  -d ${shellQuoted(json(request))} \\
  -o job.json

n=0
grep -o '"url":"[^"]*"' job.json | cut -d '"' -f 4 | while read -r path; do
  n=$((n + 1))
  curl -sS "$server$path" -o "picture-$n.${ending(request)}" && echo "picture-$n.${ending(request)}"
done
`;
}

/** Asks, looks every second until the job has ended, saves its pictures, and tells what went wrong. */
export function python(server: string, request: Request): string {
  return `import time
from pathlib import Path

import httpx

request = ${pythonLiteral(withNumbers(request))}

with httpx.Client(base_url=${JSON.stringify(server)}, timeout=60) as client:
    answer = client.post("/api/jobs", json=request)
    if answer.is_error:
        raise SystemExit(answer.json()["detail"])
    job = answer.json()
    while job["status"] in ("pending", "processing"):
        time.sleep(1)
        job = client.get(job["links"]["self"]).raise_for_status().json()

    for warning in job["warnings"]:
        print("Warning:", warning)
    for picture in job["pictures"]:
        if picture["image_id"] is None:
            print("Not painted:", picture["error"] or job["error"] or job["status"])
            continue
        path = Path(f"picture-{picture['index']}.${ending(request)}")
        path.write_bytes(client.get(picture["url"]).raise_for_status().content)
        print(path, "seed", picture["seed"])
`;
}

/** Fields that OpenAI's API has no words for, as the request names them. */
export function leftOut(request: Request): string[] {
  const unknown = [
    "guidance",
    "clip_skip",
    "sampler",
    "schedule",
    "shift",
    "cache",
    "denoise",
    "stages",
    "adapters",
    "references",
    "references_as",
    "mask",
  ];
  const left = unknown.filter((name) => name in request);
  if (request.preset && request.model) left.push("model");
  return left;
}

/**
 * With OpenAI's package, which waits by itself.
 *
 * `size` is what the request's shape comes to, where that is known. A preset goes in the place of the model.
 */
export function openai(server: string, request: Request, size?: Size): string {
  const { seed, negative_prompt, steps, cfg } = withNumbers(request);
  const given = { seed, negative_prompt, steps, guidance_scale: cfg };
  const extra = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const asked: Record<string, unknown> = {
    model: request.preset ?? request.model ?? undefined,
    prompt: request.prompt ?? "",
    n: request.count === undefined ? undefined : Math.min(request.count, 10),
    size: size && `${size.width}x${size.height}`,
    output_format: request.output?.format,
    output_compression: request.output?.quality,
    extra_body: Object.keys(extra).length ? extra : undefined,
  };
  const lines = Object.entries(asked)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `    ${name}=${pythonLiteral(value, 4)},`);
  return `import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(`${server}/v1`)}, api_key="none")
answer = client.images.generate(
${lines.join("\n")}
)
for number, image in enumerate(answer.data):
    path = Path(f"picture-{number}.${ending(request)}")
    path.write_bytes(base64.b64decode(image.b64_json))
    print(path)
`;
}

/** For Node 20 or newer as a module, and for a browser's console. */
export function javascript(server: string, request: Request): string {
  return `const server = ${JSON.stringify(server)};
const request = ${json(request)};

const answer = await fetch(\`\${server}/api/jobs\`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(request),
});
let job = await answer.json();
if (!answer.ok) throw new Error(job.detail);

while (job.status === "pending" || job.status === "processing") {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await (await fetch(server + job.links.self)).json();
}

for (const picture of job.pictures) {
  if (picture.url) console.log(server + picture.url, "seed", picture.seed);
  else console.log("Not painted:", picture.error?.message ?? job.error?.message ?? job.status);
}
`;
}

function withNumbers(request: Request): Request {
  const exact = Number(request.seed);
  return request.seed !== undefined && request.seed !== null && Number.isSafeInteger(exact)
    ? { ...request, seed: exact }
    : request;
}
