/**
 * Takes what is dropped or pasted anywhere on the page: a picture, to load how it was made into the form, or a workflow
 * of ComfyUI's.
 */

import { lazy, Suspense, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import classes from "./recipe.module.css";
import { picturesIn } from "./reference/picking";
import { useWorkflow } from "./workflow/opened";
import { workflowFileIn, workflowFileOf } from "./workflow/recognise";

const RecipeDialog = lazy(() =>
  import("./RecipeDialog").then(({ RecipeDialog }) => ({ default: RecipeDialog })),
);
const WorkflowDialog = lazy(() =>
  import("./workflow/WorkflowDialog").then(({ WorkflowDialog }) => ({ default: WorkflowDialog })),
);

const isReference = (target: EventTarget | null) =>
  target instanceof Element && target.closest("[data-reference-drop]") !== null;
/** What is over the page, as far as the browser tells before it is dropped. */
const kindOf = ({ dataTransfer }: DragEvent) =>
  [...(dataTransfer?.items ?? [])].some(({ type }) => type.startsWith("image/")) ? "picture" : "workflow";
const isDialogOpen = () => document.querySelector('[aria-modal="true"]') !== null;

export function RecipeDrop() {
  const { t } = useTranslation(["create", "workflow"]);
  const [file, setFile] = useState<File | null>(null);
  const [over, setOver] = useState<"picture" | "workflow" | null>(null);
  const { file: workflow, open, close } = useWorkflow();

  useEffect(() => {
    let depth = 0;
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const onEnter = (event: DragEvent) => {
      if (!hasFiles(event) || isDialogOpen()) return;
      depth++;
      setOver(kindOf(event));
    };
    const onLeave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(null);
    };
    const onOver = (event: DragEvent) => {
      if (hasFiles(event)) event.preventDefault(); // a browser would leave the page and show the file
    };
    const onEnd = () => {
      depth = 0;
      setOver(null);
    };
    const onFirst = (event: DragEvent) => {
      onEnd();
      const [picture] = picturesIn(event.dataTransfer);
      const dropped = workflowFileIn(event.dataTransfer);
      if (!dropped || picture || isDialogOpen()) return;
      event.preventDefault();
      event.stopPropagation();
      open(dropped);
    };
    const onDrop = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      const [dropped] = picturesIn(event.dataTransfer);
      if (dropped && !isDialogOpen() && !isReference(event.target)) setFile(dropped);
    };
    const onPaste = (event: ClipboardEvent) => {
      if (isDialogOpen() || event.defaultPrevented) return;
      const [pasted] = picturesIn(event.clipboardData);
      const copied =
        workflowFileIn(event.clipboardData) ?? workflowFileOf(event.clipboardData?.getData("text/plain"));
      if (pasted) setFile(pasted);
      else if (copied) open(copied);
      else return;
      event.preventDefault();
    };
    window.addEventListener("dragenter", onEnter);
    window.addEventListener("dragleave", onLeave);
    window.addEventListener("dragover", onOver);
    window.addEventListener("drop", onFirst, true); // the reference box keeps a drop to itself
    window.addEventListener("drop", onDrop);
    window.addEventListener("paste", onPaste);
    return () => {
      window.removeEventListener("dragenter", onEnter);
      window.removeEventListener("dragleave", onLeave);
      window.removeEventListener("dragover", onOver);
      window.removeEventListener("drop", onFirst, true);
      window.removeEventListener("drop", onDrop);
      window.removeEventListener("paste", onPaste);
    };
  }, [open]);

  return (
    <>
      {over && (
        <div className={classes.over} aria-hidden>
          {t(over === "picture" ? "recipe.drop" : "workflow:drop")}
        </div>
      )}
      <Suspense>
        {file && <RecipeDialog file={file} onClose={() => setFile(null)} />}
        {workflow && <WorkflowDialog file={workflow} onClose={close} />}
      </Suspense>
    </>
  );
}
