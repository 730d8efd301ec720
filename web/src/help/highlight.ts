/** Splits a program into texts, words of the language, and the rest, for colours. Joined again it is the same. */

export type Piece = { kind: "text" | "word" | "rest"; text: string };

const WORDS =
  "import|from|with|as|while|for|in|if|else|is|raise|continue|const|let|await|throw|new|of|do|done|read|echo|None|True|False|null|true|false";
// A text in quotes may hold escaped quotes; one in single quotes may go over lines, as in a shell.
const PATTERN = new RegExp(`("(?:\\\\.|[^"\\\\\\n])*"|'[^']*'|\`[^\`]*\`)|\\b(${WORDS})\\b`, "g");

export function pieces(program: string): Piece[] {
  const found: Piece[] = [];
  let end = 0;
  for (const match of program.matchAll(PATTERN)) {
    if (match.index > end) found.push({ kind: "rest", text: program.slice(end, match.index) });
    found.push({ kind: match[1] === undefined ? "word" : "text", text: match[0] });
    end = match.index + match[0].length;
  }
  if (end < program.length) found.push({ kind: "rest", text: program.slice(end) });
  return found;
}
