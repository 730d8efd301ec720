import { expect, test } from "vitest";
import { type Walk, walked } from "./history";

const HISTORY = ["a cat", "a dog", "a fox"];

function walk(steps: string, draft: string) {
  let state: { walk: Walk | null; prompt: string } = { walk: null, prompt: draft };
  for (const step of steps) state = walked(HISTORY, state.walk, state.prompt, step === "u") ?? state;
  return state.prompt;
}

test("up goes to older prompts and stops at the oldest", () => {
  expect(walk("u", "")).toBe("a cat");
  expect(walk("uuuuuu", "")).toBe("a fox");
});

test("down comes back to what was being written", () => {
  expect(walk("uud", "half a sent")).toBe("a cat");
  expect(walk("uuddd", "half a sent")).toBe("half a sent");
  expect(walk("d", "half a sent")).toBe("half a sent");
});

test("the prompt that was just sent is not shown twice", () => {
  expect(walk("u", "a cat")).toBe("a dog");
});

test("what was changed on the way becomes the draft", () => {
  const first = walked(HISTORY, null, "draft", true);
  const second = walked(HISTORY, first?.walk ?? null, "a cat with a hat", true);
  expect(second).toEqual({ walk: { at: 0, draft: "a cat with a hat" }, prompt: "a cat" });
});
