/** Says that the server does not answer, and when it does again. A blink of the line is not worth a word. */

import { IconCheck, IconPlugConnectedX } from "@tabler/icons-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLive } from "@/live/stream";
import classes from "./Shell.module.css";

const BLINK_MS = 900;
const HEALED_MS = 2_500;

export function ConnectionNotice() {
  const { t } = useTranslation();
  const isLost = useLive((state) => state.connection === "lost");
  const [told, setTold] = useState<"lost" | "healed" | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => setTold(isLost ? "lost" : null), isLost ? BLINK_MS : HEALED_MS);
    if (!isLost) setTold((before) => (before === "lost" ? "healed" : before));
    return () => clearTimeout(timer);
  }, [isLost]);
  return (
    <div role="status">
      {told && (
        <div className={classes.connection} data-state={told}>
          {told === "lost" ? (
            <IconPlugConnectedX size={18} aria-hidden />
          ) : (
            <IconCheck size={18} aria-hidden />
          )}
          {t(told === "lost" ? "connection.lost" : "connection.open")}
        </div>
      )}
    </div>
  );
}
