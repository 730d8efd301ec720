import { Button, FileButton, Loader } from "@mantine/core";
import { IconPhotoPlus } from "@tabler/icons-react";
import { type ClipboardEvent, type DragEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { Field } from "../fields/Field";
import fields from "../fields/fields.module.css";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { GalleryPicker } from "./GalleryPicker";
import { pictureIn, useReference } from "./picking";
import { ReferenceCard } from "./ReferenceCard";
import classes from "./reference.module.css";

/** The picture to start from: dropped, pasted, chosen as a file or from the gallery. */
export function ReferenceField() {
  const { t } = useTranslation("create");
  const reference = useForm((state) => state.form.reference);
  const { abilities } = useChoices();
  const { send, isSending } = useReference();
  const [isOver, setOver] = useState(false);
  const [isPicking, setPicking] = useState(false);
  const error = useFieldError("reference", "references");
  const maskError = useFieldError("mask");
  const cannot = abilities.cannot("references");

  const take = (event: DragEvent | ClipboardEvent, transfer: DataTransfer) => {
    setOver(false);
    const file = pictureIn(transfer);
    if (!file || cannot) return;
    event.preventDefault();
    event.stopPropagation();
    void send(file);
  };

  return (
    <Field title={t("reference.title")} hint={t("reference.hint")} error={error ?? maskError}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: dropping and pasting come beside the buttons inside */}
      <div
        className={classes.drop}
        data-over={isOver || undefined}
        data-filled={reference !== null || undefined}
        onDragOver={(event) => {
          if (cannot || !event.dataTransfer.types.includes("Files")) return;
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => take(event, event.dataTransfer)}
        onPaste={(event) => take(event, event.clipboardData)}
        data-reference-drop
      >
        {reference ? (
          <ReferenceCard reference={reference} />
        ) : (
          <>
            <span className={classes.invite}>
              {isSending ? <Loader size={20} /> : <IconPhotoPlus size={24} stroke={1.4} aria-hidden />}
              {isSending ? t("reference.sending") : t("reference.invite")}
            </span>
            <span className={classes.buttons}>
              <FileButton
                onChange={(file) => file && void send(file)}
                accept="image/*"
                disabled={cannot || isSending}
              >
                {(props) => (
                  <Button {...props} variant="default" size="xs" disabled={cannot || isSending}>
                    {t("reference.file")}
                  </Button>
                )}
              </FileButton>
              <Button
                variant="default"
                size="xs"
                disabled={cannot || isSending}
                onClick={() => setPicking(true)}
              >
                {t("reference.gallery")}
              </Button>
            </span>
          </>
        )}
      </div>
      {cannot && <p className={fields.note}>{t("cannot.references")}</p>}
      <GalleryPicker isOpen={isPicking} onClose={() => setPicking(false)} />
    </Field>
  );
}
