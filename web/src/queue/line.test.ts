import { expect, test } from "vitest";
import type { Job } from "@/api/jobs";
import { aJob } from "@/testing";
import { inLine, moved, places } from "./line";

const job = (name: string, priority = 0, backend = "native") =>
  aJob({ id: name, priority, created_at: name.charCodeAt(0), request: { backend } as Job["request"] });
const names = (jobs: readonly { id: string }[]) => jobs.map(({ id }) => id).join("");

/** The order after the changes. */
function order(line: Job[], from: number, to: number): string {
  const changes = moved(line, from, to) ?? [];
  const changed = line.map((other) => ({ ...other, ...changes.find(({ id }) => id === other.id) }));
  return names(inLine(changed));
}

test("higher priorities go first, then whoever waits longer", () => {
  expect(names(inLine([job("d"), job("c", 3), job("b", -1), job("a")]))).toBe("cadb");
});

test("places are counted in each line for itself, and only for jobs that wait", () => {
  const running = { ...job("a"), status: "processing" as const };
  const found = places([job("d"), job("c", 0, "elsewhere"), job("b"), running]);
  expect([found.get("b"), found.get("d"), found.get("c"), found.get("a")]).toEqual([0, 1, 0, undefined]);
});

test("any job can be moved to any place in front of it", () => {
  for (const priorities of [
    [0, 0, 0, 0, 0],
    [5, 5, 1, 1, -2],
    [2, 1, 0, -1, -2],
  ]) {
    const line = inLine(priorities.map((priority, n) => job("abcde"[n] ?? "", priority)));
    for (let from = 1; from < line.length; from++)
      for (let to = 0; to < from; to++) {
        const wanted = [...line.slice(0, to), line[from], ...line.slice(to, from), ...line.slice(from + 1)];
        expect(order(line, from, to)).toBe(names(wanted as Job[]));
      }
  }
});

test("jobs that arrived in another order than their priorities say can be moved as well", () => {
  const line = inLine([job("a", 0), job("b", 0), job("c", 9), job("d", 9)]);
  expect(names(line)).toBe("cdab");
  expect(order(line, 1, 0)).toBe("dcab");
  expect(order(line, 3, 2)).toBe("cdba");
  expect(order(line, 3, 0)).toBe("bcda");
});

test("to the front takes one change", () => {
  const line = inLine(["a", "b", "c", "d"].map((name) => job(name)));
  expect(moved(line, 3, 0)).toEqual([{ id: "d", priority: 1 }]);
});

test("priorities stay within their bounds", () => {
  const line = inLine([job("a", 100), job("b", 100)]);
  expect(order(line, 1, 0)).toBe("ba");
  expect(moved(line, 1, 0)?.every(({ priority }) => priority <= 100)).toBe(true);
});
