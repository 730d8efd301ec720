import { type ClipboardEvent, type DragEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { Field } from "../fields/Field";
import fields from "../fields/fields.module.css";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { picturesIn, useReference } from "./picking";
import { ReferenceAdd } from "./ReferenceAdd";
import { ReferenceCard } from "./ReferenceCard";
import { ReferenceList } from "./ReferenceList";
import { ReferencesAsField } from "./ReferencesAsField";
import classes from "./reference.module.css";

/** The pictures to start from or to look at: dropped, pasted, chosen as files or from the gallery. */
export function ReferenceField() {
  const { t } = useTranslation("create");
  const references = useForm((state) => state.form.references);
  const { abilities, referencesAs, room } = useChoices();
  const { send, isSending } = useReference();
  const [isOver, setOver] = useState(false);
  const error = useFieldError("references");
  const asError = useFieldError("referencesAs", "references_as");
  const maskError = useFieldError("mask");
  const cannot = abilities.cannot("references");
  const [first] = references;
  const isStart = referencesAs === "start";

  const take = async (event: DragEvent | ClipboardEvent, transfer: DataTransfer) => {
    setOver(false);
    const files = picturesIn(transfer).slice(0, isStart ? 1 : undefined);
    if (!files.length || cannot) return;
    event.preventDefault();
    event.stopPropagation();
    for (const file of files) await send(file);
  };

  return (
    <Field
      title={t(abilities.context ? "reference.titleMany" : "reference.title")}
      hint={t(abilities.context ? "reference.hintMany" : "reference.hint")}
      error={error ?? asError ?? maskError}
    >
      {/* biome-ignore lint/a11y/noStaticElementInteractions: dropping and pasting come beside the buttons inside */}
      <div
        className={classes.drop}
        data-over={isOver || undefined}
        data-filled={references.length > 0 || undefined}
        onDragOver={(event) => {
          if (cannot || !event.dataTransfer.types.includes("Files")) return;
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => void take(event, event.dataTransfer)}
        onPaste={(event) => void take(event, event.clipboardData)}
        data-reference-drop
      >
        {first && abilities.context !== 0 && <ReferencesAsField />}
        {first && isStart && <ReferenceCard reference={first} key={first.id} />}
        {first && !isStart && <ReferenceList />}
        {(!first || (!isStart && references.length < room)) && (
          <ReferenceAdd isFirst={!first} isSending={isSending} isOff={cannot || isSending} onFile={send} />
        )}
        {references.length > room && (
          <p className={fields.note} role="status">
            {isStart
              ? t("reference.leftStart", { count: references.length - 1 })
              : t("reference.leftContext", { count: room })}
          </p>
        )}
      </div>
      {cannot && <p className={fields.note}>{t("cannot.references")}</p>}
    </Field>
  );
}
