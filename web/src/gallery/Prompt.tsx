import { UnstyledButton } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { CopyIcon } from "./Copy";
import classes from "./Panel.module.css";

const LONG = 380;

/** A prompt to read and to copy; a long one is cut until it is unfolded. */
export function Prompt({ title, text, quiet = false }: { title: string; text: string; quiet?: boolean }) {
  const { t } = useTranslation("gallery");
  const [unfolded, setUnfolded] = useState(false);
  const isLong = text.length > LONG;
  return (
    <section>
      <div className={classes.top}>
        <h2 className={classes.label}>{title}</h2>
        <CopyIcon value={text} name={title} />
      </div>
      <p
        className={classes.prompt}
        data-quiet={quiet || undefined}
        data-short={(isLong && !unfolded) || undefined}
      >
        {text}
      </p>
      {isLong && (
        <UnstyledButton
          className={classes.more}
          onClick={() => setUnfolded(!unfolded)}
          aria-expanded={unfolded}
        >
          {t(unfolded ? "panel.less" : "panel.whole")}
        </UnstyledButton>
      )}
    </section>
  );
}
