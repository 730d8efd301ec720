import { expect, test } from "vitest";
import type { Explained, Missing } from "@/api/workflows";
import { changesOf, grouped, guess, isGuided, NOTHING, needs, valuesOf } from "./choosing";

type Request = NonNullable<Explained["request"]>;
const requested = (request: Partial<Request>) => request as Request;
const model: Missing = { node: "1", kind: "model", name: "z.safetensors", near: ["sketchbook", "other"] };
const adapter: Missing = { node: "4", kind: "adapter", name: "ink.safetensors", near: ["ink"] };
const picture = (node: string): Missing => ({ node, kind: "picture", name: "garden.png", near: [] });

test("only what was changed is sent, and what was emptied stays the workflow's own", () => {
  expect(changesOf(NOTHING, [])).toEqual({ set: {}, models: {}, references: {} });
  const values = { prompt: "", seed: "", steps: null, count: 3 };
  expect(changesOf({ ...NOTHING, values }, []).set).toEqual({ prompt: "", count: 3 });
});

test("a seed is sent as the text that it is", () => {
  const values = { seed: "18446744073709551615" };
  expect(changesOf({ ...NOTHING, values }, []).set).toEqual(values);
  expect(changesOf({ ...NOTHING, values: { seed: "18446744073709551616" } }, []).set).toEqual({});
});

test("a LoRA that is left out has no strength in any of its nodes", () => {
  const loras = [
    { node: "4", file: "a", strengths: ["strength_model"] },
    { node: "5", file: "b", strengths: ["strength_model"] },
    { node: "6", file: "a", strengths: ["strength_model", "strength_clip"] },
  ];
  expect(changesOf({ ...NOTHING, left: ["a"] }, loras).set).toEqual({
    "4.strength_model": 0,
    "6.strength_model": 0,
    "6.strength_clip": 0,
  });
});

test("names are ours by the workflow's, pictures by their node", () => {
  const pictures = { "142": { id: "up_1", url: "/api/uploads/up_1" } };
  const changes = changesOf({ ...NOTHING, names: { z: "sketchbook" }, pictures }, []);
  expect([changes.models, changes.references]).toEqual([{ z: "sketchbook" }, { "142": "up_1" }]);
});

test("the workflow's own values are those of its first stage", () => {
  const stages = [{ steps: 9, cfg: 1 }, { steps: 16 }] as Request["stages"];
  const request = requested({ prompt: "a boat", seed: "1234567", stages });
  expect(valuesOf(request)).toEqual({
    prompt: "a boat",
    negative_prompt: "",
    seed: "1234567",
    steps: 9,
    count: 1,
  });
  expect(valuesOf(undefined)).toBeUndefined();
  expect(isGuided(request)).toBe(false);
  expect(isGuided(requested({ stages: [{ cfg: 2 }] as Request["stages"] }))).toBe(true);
});

test("what was chosen stays among the needs; one name is asked for once, every picture for itself", () => {
  const again = { ...adapter, node: "5" };
  expect(needs([model, adapter], [again, picture("7"), picture("8")])).toEqual([
    model,
    adapter,
    picture("7"),
    picture("8"),
  ]);
  expect(needs(undefined, [model])).toEqual([model]);
});

test("a guess is made only where it makes the workflow readable", () => {
  const changes = {
    set: { prompt: "x", "4.strength_model": 0 },
    models: { a: "b" },
    references: { "7": "up_1" },
  };
  expect(guess(changes, [model, adapter])).toEqual({
    set: { "4.strength_model": 0 },
    models: { a: "b", "z.safetensors": "sketchbook", "ink.safetensors": "ink" },
    references: { "7": "up_1" },
  });
  for (const missing of [[model, picture("7")], [{ ...adapter, near: [] }], [], undefined])
    expect(guess(changes, missing)).toBeUndefined();
});

test("the same remark of several nodes is said once, and what changes the picture first", () => {
  const remark = (kind: "differs" | "note" | "ignored", node: string, text: string) => ({ kind, node, text });
  expect(
    grouped([remark("ignored", "9", "x"), remark("differs", "1", "y"), remark("differs", "2", "y")]),
  ).toEqual([
    { kind: "differs", said: [["y", ["1", "2"]]] },
    { kind: "ignored", said: [["x", ["9"]]] },
  ]);
});
