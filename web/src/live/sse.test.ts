import { expect, test } from "vitest";
import { makeParser } from "./sse";

test("events are put together from pieces of any size", () => {
  const stream =
    'id: 4\nevent: done\ndata: {"type":"done"}\n\n: still here\n\nevent: info\ndata: {"a":1}\n\n';
  for (const size of [1, 3, 7, 1000]) {
    const parse = makeParser();
    const pieces = stream.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
    expect(pieces.flatMap(parse)).toEqual(['{"type":"done"}', '{"a":1}']);
  }
});

test("an event without its end is not told", () => {
  expect(makeParser()("event: done\ndata: {}\n")).toEqual([]);
});
