/** How to begin, in four sentences. */

import { useTranslation } from "react-i18next";
import { Again, Grow, Keep, Write } from "./Drawings";
import classes from "./FirstSteps.module.css";

const STEPS = [
  { name: "write", Drawing: Write },
  { name: "grow", Drawing: Grow },
  { name: "keep", Drawing: Keep },
  { name: "again", Drawing: Again },
] as const;

export function FirstSteps() {
  const { t } = useTranslation("help");
  return (
    <ol className={classes.steps}>
      {STEPS.map(({ name, Drawing }) => (
        <li key={name} className="surface">
          <Drawing />
          <p>{t(`steps.${name}`)}</p>
        </li>
      ))}
    </ol>
  );
}
