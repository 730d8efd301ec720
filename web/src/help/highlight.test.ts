import { expect, test } from "vitest";
import { pieces } from "./highlight";

test("nothing is lost", () => {
  const program = `for x in "a \\"b\\" for": print('it', \`c\`)\n"open`;
  expect(
    pieces(program)
      .map((piece) => piece.text)
      .join(""),
  ).toBe(program);
});

test("words inside texts are texts", () =>
  expect(pieces('let a = "let it be";')).toEqual([
    { kind: "word", text: "let" },
    { kind: "rest", text: " a = " },
    { kind: "text", text: '"let it be"' },
    { kind: "rest", text: ";" },
  ]));
