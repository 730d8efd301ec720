/** Where files are to be put, under a shelf; the text names folders and settings as code. */

import { Trans, useTranslation } from "react-i18next";
import classes from "./library.module.css";

export function Where({ shelf }: { shelf: "models" | "loras" | "presets" }) {
  const { t } = useTranslation("library");
  const code = <code />;
  return (
    <p className={classes.foot}>
      <Trans t={t} i18nKey={`${shelf}.where`} components={{ 1: code, 3: code }} />
    </p>
  );
}
