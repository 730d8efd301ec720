/** Small drawings beside the first steps, in the page's own colours. */

import type { ReactNode } from "react";
import classes from "./FirstSteps.module.css";

const Drawing = ({ children }: { children: ReactNode }) => (
  <svg className={classes.drawing} viewBox="0 0 160 96" aria-hidden="true">
    {children}
  </svg>
);

/** A sheet with a sentence that is being written. */
export const Write = () => (
  <Drawing>
    <rect x="18" y="18" width="124" height="60" rx="8" className={classes.sheet} />
    <path d="M32 38h78M32 50h50" className={classes.ink} />
    <path d="M90 44v13" className={classes.accent} />
    <rect x="106" y="60" width="26" height="10" rx="5" className={classes.accentFill} />
  </Drawing>
);

/** Frames that grow, the last one with a picture in it. */
export const Grow = () => (
  <Drawing>
    <rect x="16" y="56" width="20" height="24" rx="3" className={classes.sheet} />
    <rect x="44" y="42" width="30" height="38" rx="3" className={classes.sheet} />
    <rect x="82" y="14" width="54" height="66" rx="4" className={classes.sheet} />
    <path d="M83 66c10-14 18-16 26-6s16 6 26-6v22a3 3 0 0 1-3 3H86a3 3 0 0 1-3-3z" className={classes.soft} />
    <circle cx="119" cy="32" r="7" className={classes.accentFill} />
  </Drawing>
);

/** Pictures on a wall, one of them a favourite. */
export const Keep = () => (
  <Drawing>
    <rect x="20" y="16" width="36" height="30" rx="4" className={classes.sheet} />
    <rect x="20" y="52" width="36" height="30" rx="4" className={classes.soft} />
    <rect x="62" y="16" width="36" height="66" rx="4" className={classes.soft} />
    <rect x="104" y="16" width="36" height="44" rx="4" className={classes.sheet} />
    <rect x="104" y="66" width="36" height="16" rx="4" className={classes.sheet} />
    <path
      d="M122 46c-8-5-10-8-10-11a5 5 0 0 1 10-2 5 5 0 0 1 10 2c0 3-2 6-10 11z"
      className={classes.accentFill}
    />
  </Drawing>
);

/** One picture that becomes another. */
export const Again = () => (
  <Drawing>
    <rect x="18" y="24" width="46" height="52" rx="4" className={classes.sheet} />
    <circle cx="41" cy="50" r="10" className={classes.soft} />
    <path d="M72 50h16m-6-6 6 6-6 6" className={classes.accent} />
    <rect x="96" y="24" width="46" height="52" rx="4" className={classes.sheet} />
    <circle cx="119" cy="50" r="10" className={classes.accentFill} />
  </Drawing>
);
