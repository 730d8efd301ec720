/** Takes a picture that is dropped or pasted anywhere on the page and loads how it was made into the form. */

import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { RecipeDialog } from "./RecipeDialog";
import classes from "./recipe.module.css";
import { picturesIn } from "./reference/picking";

const isReference = (target: EventTarget | null) =>
  target instanceof Element && target.closest("[data-reference-drop]") !== null;
const isDialogOpen = () => document.querySelector('[aria-modal="true"]') !== null;

export function RecipeDrop() {
  const { t } = useTranslation("create");
  const [file, setFile] = useState<File | null>(null);
  const [isOver, setOver] = useState(false);

  useEffect(() => {
    let depth = 0;
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const onEnter = (event: DragEvent) => {
      if (!hasFiles(event) || isDialogOpen()) return;
      depth++;
      setOver(true);
    };
    const onLeave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const onOver = (event: DragEvent) => {
      if (hasFiles(event)) event.preventDefault(); // a browser would leave the page and show the file
    };
    const onEnd = () => {
      depth = 0;
      setOver(false);
    };
    const onDrop = (event: DragEvent) => {
      onEnd();
      if (!hasFiles(event)) return;
      event.preventDefault();
      const [dropped] = picturesIn(event.dataTransfer);
      if (dropped && !isDialogOpen() && !isReference(event.target)) setFile(dropped);
    };
    const onPaste = (event: ClipboardEvent) => {
      const [pasted] = picturesIn(event.clipboardData);
      if (!pasted || isDialogOpen() || event.defaultPrevented) return;
      event.preventDefault();
      setFile(pasted);
    };
    window.addEventListener("dragenter", onEnter);
    window.addEventListener("dragleave", onLeave);
    window.addEventListener("dragover", onOver);
    window.addEventListener("drop", onEnd, true); // the reference box keeps a drop to itself
    window.addEventListener("drop", onDrop);
    window.addEventListener("paste", onPaste);
    return () => {
      window.removeEventListener("dragenter", onEnter);
      window.removeEventListener("dragleave", onLeave);
      window.removeEventListener("dragover", onOver);
      window.removeEventListener("drop", onEnd, true);
      window.removeEventListener("drop", onDrop);
      window.removeEventListener("paste", onPaste);
    };
  }, []);

  return (
    <>
      {isOver && (
        <div className={classes.over} aria-hidden>
          {t("recipe.drop")}
        </div>
      )}
      {file && <RecipeDialog file={file} onClose={() => setFile(null)} />}
    </>
  );
}
