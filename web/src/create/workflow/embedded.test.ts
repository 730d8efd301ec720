import { expect, test } from "vitest";
import { textsOf, workflowIn } from "./embedded";

const bytes = (text: string) => [...new TextEncoder().encode(text)];

function chunk(type: string, body: number[]): number[] {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, body.length);
  return [...length, ...bytes(type), ...body, 0, 0, 0, 0];
}

const png = (...chunks: number[][]) =>
  new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, ...chunks.flat(), ...chunk("IEND", [])]);
const text = (keyword: string, said: string) => chunk("tEXt", [...bytes(keyword), 0, ...bytes(said)]);

test("what ran goes before what the editor showed", async () => {
  const picture = png(
    chunk("IDAT", [1, 2, 3]),
    text("workflow", '{"nodes": []}'),
    text("prompt", '{"1": {}}'),
  );
  expect(await workflowIn(new Blob([picture]))).toBe('{"1": {}}');
  expect(await workflowIn(new Blob([png(text("workflow", '{"nodes": []}'))]))).toBe('{"nodes": []}');
});

test("an international text is read, a compressed one is passed over", () => {
  const body = (flag: number) => [
    ...bytes("prompt"),
    0,
    flag,
    0,
    ...bytes("zh"),
    0,
    0,
    ...bytes('{"一": 1}'),
  ];
  expect(textsOf(png(chunk("iTXt", body(0)))).get("prompt")).toBe('{"一": 1}');
  expect(textsOf(png(chunk("iTXt", body(1))))).toEqual(new Map());
});

test("other pictures, and broken ones, hold no workflow", async () => {
  expect(await workflowIn(new Blob([png(text("parameters", "a boat"))]))).toBeUndefined();
  expect(await workflowIn(new Blob([png(text("prompt", "a boat"))]))).toBeUndefined();
  expect(await workflowIn(new Blob(["JFIF"]))).toBeUndefined();
  expect(textsOf(png([255, 255, 255, 255, ...bytes("tEXt"), 1]))).toEqual(new Map());
});
