import { Textarea } from "@mantine/core";
import { type KeyboardEvent, useRef } from "react";
import { useTranslation } from "react-i18next";
import { useForm } from "../form";
import { type Walk, walked } from "../history";
import { useFieldError } from "../usePaint";
import classes from "./fields.module.css";

/** What to paint. Alt and the arrow keys walk through what was painted before; what is being written comes back. */
export function PromptField() {
  const { t } = useTranslation("create");
  const prompt = useForm((state) => state.form.prompt);
  const { set } = useForm.getState();
  const walk = useRef<Walk | null>(null);
  const error = useFieldError("prompt");

  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    const { form, history } = useForm.getState();
    const next = walked(history, walk.current, form.prompt, event.key === "ArrowUp");
    if (!next) return;
    walk.current = next.walk;
    set({ prompt: next.prompt });
  };

  return (
    <Textarea
      className={classes.prompt}
      aria-label={t("prompt.label")}
      placeholder={t("prompt.placeholder")}
      value={prompt}
      onChange={(event) => set({ prompt: event.currentTarget.value })}
      onKeyDown={onKeyDown}
      autosize
      minRows={3}
      maxRows={12}
      autoFocus={matchMedia("(hover: hover)").matches}
      spellCheck
      enterKeyHint="enter"
      error={error}
      aria-keyshortcuts="Control+Enter Alt+ArrowUp Alt+ArrowDown"
    />
  );
}
