import { Tooltip } from "@mantine/core";
import { IconInfoCircle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import classes from "./fields.module.css";

/** A titled part of the form; `hint` explains it where somebody asks, `aside` stands at the title's other end. */
export function Field({
  title,
  hint,
  aside,
  error,
  children,
}: {
  title: string;
  hint?: string | undefined;
  aside?: ReactNode;
  error?: string | undefined;
  children: ReactNode;
}) {
  return (
    <section className={classes.field}>
      <div className={classes.title}>
        <h2>{title}</h2>
        {hint && (
          <Tooltip label={hint} events={{ hover: true, focus: true, touch: true }}>
            <button type="button" className={classes.hint} aria-label={hint}>
              <IconInfoCircle size={16} stroke={1.6} aria-hidden />
            </button>
          </Tooltip>
        )}
        <span className={classes.aside}>{aside}</span>
      </div>
      {children}
      {error && (
        <p className={classes.error} role="alert">
          {error}
        </p>
      )}
    </section>
  );
}
