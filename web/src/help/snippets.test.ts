import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { EMPTY, toRequest } from "@/create/form";
import { curl, javascript, json, leftOut, openai, python, pythonLiteral, shellQuoted } from "./snippets";

const SERVER = "http://127.0.0.1:9000";
const NASTY = `it's a "boat"\\ on\n$HOME \`x\` !! 画一只猫 🐈 \u2028 %s {} \${y}`;

describe("values survive their language", () => {
  test("a shell gives back what was quoted", () =>
    expect(execFileSync("sh", ["-c", `printf %s ${shellQuoted(NASTY)}`], { encoding: "utf8" })).toBe(NASTY));

  test("JavaScript reads the request that curl sends", () =>
    expect(JSON.parse(json({ prompt: NASTY }))).toEqual({ prompt: NASTY }));

  test("a prompt cannot end its text in Python", () =>
    expect(pythonLiteral('"); import os #\n')).toBe('"\\"); import os #\\n"'));

  test("Python has its own names for nothing, true and false", () =>
    expect(pythonLiteral({ a: null, b: [true, false], c: {}, d: 1.5 })).toBe(
      `{\n    "a": None,\n    "b": [\n        True,\n        False,\n    ],\n    "c": {},\n    "d": 1.5,\n}`,
    ));
});

describe("seeds", () => {
  const request = (seed: string) => toRequest({ ...EMPTY, seed });
  test("exact ones are numbers", () => expect(JSON.parse(json(request("42"))).seed).toBe(42));
  test("larger ones keep every digit", () =>
    expect(JSON.parse(json(request("18446744073709551615"))).seed).toBe("18446744073709551615"));
});

test("every program has the server's address and the whole prompt", () => {
  const request = toRequest({ ...EMPTY, prompt: "a 'red' boat" });
  for (const program of [python(SERVER, request), openai(SERVER, request), javascript(SERVER, request)]) {
    expect(program).toContain(SERVER);
    expect(program).toContain(`"a 'red' boat"`);
  }
  expect(curl(SERVER, request)).toContain(`"a '\\''red'\\'' boat"`);
});

describe("OpenAI's package", () => {
  test("takes what it has words for, and the rest in extra_body", () => {
    const request = toRequest({ ...EMPTY, prompt: "x", seed: "7", count: 12, preset: "sketch", cfg: 2 });
    const program = openai(SERVER, request, { width: 512, height: 288 });
    for (const line of ['model="sketch"', "n=10", 'size="512x288"', '"seed": 7', '"guidance_scale": 2'])
      expect(program).toContain(line);
  });

  test("what it cannot say is named", () => {
    const adapters = [{ name: "ink", weight: 1, trigger: "" }];
    expect(leftOut(toRequest({ ...EMPTY, adapters, model: "m", preset: "sketch" }))).toEqual([
      "adapters",
      "model",
    ]);
    expect(leftOut(toRequest({ ...EMPTY, prompt: "x", seed: "1" }))).toEqual([]);
  });
});
