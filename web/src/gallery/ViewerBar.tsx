import { ActionIcon, Tooltip } from "@mantine/core";
import {
  IconColumns2,
  IconDownload,
  IconHeart,
  IconHeartFilled,
  IconInfoCircle,
  IconInfoCircleFilled,
  IconTrash,
  IconX,
} from "@tabler/icons-react";
import type { ComponentType } from "react";
import { useTranslation } from "react-i18next";
import type { Image } from "@/api/images";
import classes from "./Viewer.module.css";

/** What can be done with the picture that is open; each button tells its key. */
export function ViewerBar({
  image,
  position,
  panel,
  onClose,
  onFavour,
  onSave,
  onCompare,
  onDelete,
  onPanel,
}: {
  image: Image | undefined;
  position: string;
  panel: boolean;
  onClose: () => void;
  onFavour: () => void;
  onSave: () => void;
  onCompare: (() => void) | undefined;
  onDelete: () => void;
  onPanel: () => void;
}) {
  const { t } = useTranslation(["gallery", "common"]);
  return (
    <div className={classes.bar}>
      <Tool icon={IconX} label={t("common:action.close")} hotkey="Esc" onClick={onClose} />
      <span className={`${classes.place} numbers`}>{position}</span>
      <span className={classes.space} />
      {image && (
        <>
          <Tool
            icon={image.favourite ? IconHeartFilled : IconHeart}
            label={t("action.favourite")}
            hotkey="F"
            pressed={image.favourite}
            onClick={onFavour}
          />
          <Tool icon={IconDownload} label={t("common:action.download")} hotkey="D" onClick={onSave} />
          {onCompare && (
            <Tool icon={IconColumns2} label={t("action.compareNext")} hotkey="C" onClick={onCompare} />
          )}
          <Tool icon={IconTrash} label={t("common:action.delete")} hotkey="Del" onClick={onDelete} />
          <Tool
            icon={panel ? IconInfoCircleFilled : IconInfoCircle}
            label={t("viewer.panel")}
            hotkey="I"
            pressed={panel}
            onClick={onPanel}
          />
        </>
      )}
    </div>
  );
}

function Tool({
  icon: Icon,
  label,
  hotkey,
  pressed,
  onClick,
}: {
  icon: ComponentType<{ size: number; stroke: number }>;
  label: string;
  hotkey: string;
  pressed?: boolean;
  onClick: () => void;
}) {
  return (
    <Tooltip label={`${label} (${hotkey})`}>
      <ActionIcon
        size={44}
        radius="md"
        color={pressed ? "minium" : "gray"}
        c={pressed ? "var(--accent)" : "var(--mantine-color-text)"}
        aria-label={label}
        aria-pressed={pressed}
        aria-keyshortcuts={hotkey === "Esc" ? "Escape" : hotkey === "Del" ? "Delete" : hotkey}
        onClick={onClick}
      >
        <Icon size={22} stroke={1.6} />
      </ActionIcon>
    </Tooltip>
  );
}
