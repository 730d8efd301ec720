import { Button, FileButton, Loader } from "@mantine/core";
import { IconPhotoPlus } from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { picturesIn } from "../reference/picking";
import type { Sent } from "./choosing";
import classes from "./workflow.module.css";

/** A place for the picture of one node: dropped on it, or chosen as a file. */
export function PictureSlot(props: {
  label: string;
  picture: Sent | undefined;
  isSending: boolean;
  onFile: (file: File) => Promise<void>;
}) {
  const { label, picture, isSending, onFile } = props;
  const { t } = useTranslation("workflow");
  const [isOver, setOver] = useState(false);
  return (
    <fieldset
      className={classes.place}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        setOver(false);
        const [dropped] = picturesIn(event.dataTransfer);
        event.preventDefault();
        if (dropped && !isSending) void onFile(dropped);
      }}
    >
      <legend className={classes.label}>{label}</legend>
      <div className={classes.slot} data-over={isOver || undefined}>
        {picture ? (
          <img className={classes.given} src={picture.url} alt={label} />
        ) : (
          <span className={classes.blank} aria-hidden>
            {isSending ? <Loader size={20} /> : <IconPhotoPlus size={24} stroke={1.4} />}
          </span>
        )}
        <span className={classes.invite}>
          {isSending ? t("needs.sending") : !picture && t("needs.invite")}
          <FileButton onChange={(file) => file && void onFile(file)} accept="image/*" disabled={isSending}>
            {(button) => (
              <Button {...button} variant="default" size="xs" disabled={isSending}>
                {t(picture ? "needs.another" : "needs.file")}
              </Button>
            )}
          </FileButton>
        </span>
      </div>
    </fieldset>
  );
}
