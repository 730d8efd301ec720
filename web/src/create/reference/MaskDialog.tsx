import { Button, Modal, Text } from "@mantine/core";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useUpload } from "@/api/images";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { type Picked, useForm } from "../form";
import { MaskCanvas } from "./MaskCanvas";
import { MaskTools } from "./MaskTools";
import classes from "./mask.module.css";
import { uploadUrl } from "./picking";
import { masked } from "./strength";
import { resizedBrush } from "./strokes";
import { asFile, useMask } from "./useMask";

const LONGEST = 1536;

/** Painting over the reference what shall be painted anew. */
export function MaskDialog(props: { reference: Picked; mask: Picked | null; onClose: () => void }) {
  const { t } = useTranslation(["create", "common"]);
  const { reference, mask: earlier, onClose } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState<{ width: number; height: number } | null>(null);
  const [brush, setBrush] = useState(48);
  const [erases, setErases] = useState(false);
  const [isLost, setLost] = useState(false);
  const mask = useMask(canvas, size, earlier?.url ?? null);
  const upload = useUpload();
  const { set } = useForm.getState();
  const picture = reference.kind === "image" ? `/api/images/${reference.id}` : uploadUrl(reference.id);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
      if (isUndo && event.shiftKey) mask.redo();
      else if (isUndo) mask.undo();
      else if (event.key === "[") setBrush((now) => resizedBrush(now, false));
      else if (event.key === "]") setBrush((now) => resizedBrush(now, true));
      else if (event.key === "e") setErases(true);
      else if (event.key === "b") setErases(false);
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [mask.undo, mask.redo]);

  const save = async () => {
    const file = canvas.current && (await asFile(canvas.current));
    if (!file) {
      set(masked(useForm.getState().form, null));
      return onClose();
    }
    upload.mutate(new File([file], "mask.png", { type: "image/png" }), {
      onSuccess: ({ id, width, height }) => {
        const drawn: Picked = { kind: "upload", id, url: uploadUrl(id), width, height };
        set(masked(useForm.getState().form, drawn));
        onClose();
      },
    });
  };

  return (
    <Modal
      opened
      onClose={onClose}
      title={t("mask.title")}
      size="auto"
      radius="lg"
      closeOnClickOutside={false}
      closeOnEscape={!mask.canUndo} // a slip of the finger must not throw a painted mask away
      classNames={{ content: classes.dialog ?? "", body: classes.body ?? "" }}
      closeButtonProps={{ "aria-label": t("common:action.close") }}
    >
      <Text size="sm" c="dimmed">
        {t("mask.explained")}
      </Text>
      <MaskTools mask={mask} brush={brush} onBrush={setBrush} erases={erases} onErases={setErases} />
      <div className={classes.stage}>
        <img
          src={picture}
          alt={t("reference.alt")}
          draggable={false}
          onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => {
            const scale = Math.min(1, LONGEST / Math.max(naturalWidth, naturalHeight));
            setSize({ width: Math.round(naturalWidth * scale), height: Math.round(naturalHeight * scale) });
          }}
          onError={() => setLost(true)}
        />
        {size && <MaskCanvas canvas={canvas} size={size} mask={mask} brush={brush} erases={erases} />}
      </div>
      {isLost && <p role="alert">{t("reference.broken")}</p>}
      {upload.error && <ErrorNotice error={upload.error} />}
      <div className={classes.foot}>
        <Text size="sm" c="dimmed" visibleFrom="sm" mr="auto">
          {t("mask.keys")}
        </Text>
        <Button variant="default" onClick={onClose}>
          {t("common:action.cancel")}
        </Button>
        <Button onClick={() => void save()} loading={upload.isPending} disabled={!size}>
          {t("mask.done")}
        </Button>
      </div>
    </Modal>
  );
}
