import { Button, FileButton, Loader } from "@mantine/core";
import { IconPhotoPlus } from "@tabler/icons-react";
import { lazy, Suspense, useState } from "react";
import { useTranslation } from "react-i18next";
import classes from "./reference.module.css";

const GalleryPicker = lazy(() =>
  import("./GalleryPicker").then(({ GalleryPicker }) => ({ default: GalleryPicker })),
);

/** Where a picture is asked for, the first or one more. */
export function ReferenceAdd(props: {
  isFirst: boolean;
  isSending: boolean;
  isOff: boolean;
  onFile: (file: File) => Promise<boolean>;
}) {
  const { t } = useTranslation("create");
  const { isFirst, isSending, isOff } = props;
  const [isPicking, setPicking] = useState<boolean | null>(null);
  return (
    <>
      <span className={classes.invite}>
        {isSending ? <Loader size={20} /> : <IconPhotoPlus size={24} stroke={1.4} aria-hidden />}
        {isSending ? t("reference.sending") : t(isFirst ? "reference.invite" : "reference.another")}
      </span>
      <span className={classes.buttons}>
        <FileButton onChange={(file) => file && void props.onFile(file)} accept="image/*" disabled={isOff}>
          {(button) => (
            <Button {...button} variant="default" size="xs" disabled={isOff}>
              {t("reference.file")}
            </Button>
          )}
        </FileButton>
        <Button variant="default" size="xs" disabled={isOff} onClick={() => setPicking(true)}>
          {t("reference.gallery")}
        </Button>
      </span>
      {isPicking !== null && (
        <Suspense>
          <GalleryPicker isOpen={isPicking} onClose={() => setPicking(false)} />
        </Suspense>
      )}
    </>
  );
}
