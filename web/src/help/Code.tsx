/** A program to read and to copy. */

import classes from "./Examples.module.css";
import { pieces } from "./highlight";

export function Code({ text, label }: { text: string; label: string }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reachable with the keyboard
    <section className={classes.code} tabIndex={0} aria-label={label}>
      <pre>
        <code>
          {pieces(text).map((piece, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: pieces are what they are by their place
            <span key={index} className={piece.kind === "rest" ? undefined : classes[piece.kind]}>
              {piece.text}
            </span>
          ))}
        </code>
      </pre>
    </section>
  );
}
