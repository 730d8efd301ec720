import { expect, test } from "vitest";
import { isWorkflowFile, LARGEST_BYTES, recognised, workflowFileOf } from "./recognise";

const node = (class_type: string, inputs: object = {}) => ({ class_type, inputs });

test("both forms of a workflow are recognised, also one that is wrapped for the queue", () => {
  const api = { "1": node("SaveImage") };
  const json = JSON.stringify(api);
  expect(recognised(json)).toEqual({ json, loras: [] });
  expect(recognised(JSON.stringify({ prompt: api, client_id: "x" }))).toHaveProperty("json");
  expect(recognised(JSON.stringify({ nodes: [{ id: 1, type: "SaveImage" }], links: [] }))).toHaveProperty(
    "json",
  );
});

test("what is no JSON, no workflow or too large is told apart", () => {
  expect(recognised("not JSON")).toEqual({ trouble: "json" });
  for (const other of ["{}", "[]", "3", '{"a": 1}', '{"1": {"class_type": "A"}, "2": {}}'])
    expect(recognised(other)).toEqual({ trouble: "workflow" });
  expect(recognised(`"${"é".repeat(LARGEST_BYTES / 2)}"`)).toEqual({ trouble: "large" });
});

test("a seed beyond exact numbers stays as it was written", () => {
  const json = '{"1": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615}}}';
  expect(recognised(json)).toMatchObject({ json });
});

test("numbers that only Python writes become null", () => {
  const json = '{"1": {"class_type": "A", "inputs": {"text": "a NaN"}, "is_changed": [NaN, -Infinity]}}';
  expect(recognised(json)).toMatchObject({ json: json.replace("[NaN, -Infinity]", "[null, null]") });
});

test("the strengths of LoRAs are found in both forms, but not those of nodes that the editor leaves out", () => {
  const api = {
    "4": node("LoraLoaderModelOnly", { lora_name: "a" }),
    "5": node("LoraLoader", { lora_name: "b" }),
  };
  const editor = [
    { id: 4, type: "LoraLoaderModelOnly", widgets_values: ["a", 0.8] },
    { id: 5, type: "LoraLoader", widgets_values: ["b", 1, 1] },
    { id: 6, type: "LoraLoader", widgets_values: ["c", 1, 1], mode: 4 },
  ];
  const loras = [
    { node: "4", file: "a", strengths: ["strength_model"] },
    { node: "5", file: "b", strengths: ["strength_model", "strength_clip"] },
  ];
  expect(recognised(JSON.stringify(api))).toMatchObject({ loras });
  expect(recognised(JSON.stringify({ nodes: editor }))).toMatchObject({ loras });
});

test("a pasted text is a file only where it is a workflow", () => {
  expect(workflowFileOf('{"1": {"class_type": "SaveImage"}}')?.name).toBe("workflow.json");
  for (const other of ["a boat", '{"scene": "a boat"}', "{", "", undefined])
    expect(workflowFileOf(other)).toBeUndefined();
});

test("files are told by their type, or by their name where the system knows no type", () => {
  expect(isWorkflowFile({ name: "x", type: "application/json" })).toBe(true);
  expect(isWorkflowFile({ name: "X.JSON", type: "" })).toBe(true);
  expect(isWorkflowFile({ name: "json.png", type: "image/png" })).toBe(false);
});
