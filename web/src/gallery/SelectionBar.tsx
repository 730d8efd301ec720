import { ActionIcon, Tooltip, UnstyledButton } from "@mantine/core";
import { IconColumns2, IconFileZip, IconHeart, IconHeartFilled, IconTrash, IconX } from "@tabler/icons-react";
import type { ComponentType } from "react";
import { useTranslation } from "react-i18next";
import type { Image } from "@/api/images";
import { bytesText } from "./facts";
import { localeOf } from "./locale";
import classes from "./SelectionBar.module.css";

/** What can be done with the selected pictures. */
export function SelectionBar({
  images,
  total,
  busy,
  onAll,
  onZip,
  onFavour,
  onCompare,
  onDelete,
  onClear,
}: {
  images: readonly Image[];
  /** How many the filters let through; undefined while that is not known. */
  total: number | undefined;
  /** Whether all are being fetched to be selected. */
  busy: boolean;
  onAll: () => void;
  onZip: () => void;
  onFavour: (favourite: boolean) => void;
  onCompare: () => void;
  onDelete: () => void;
  onClear: () => void;
}) {
  const { t, i18n } = useTranslation(["gallery", "common"]);
  const bytes = images.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  const areFavourites = images.every(({ favourite }) => favourite);
  const canAll = total !== undefined && images.length < total;
  return (
    <div className={classes.bar} role="toolbar" aria-label={t("selection.label")}>
      <Tool icon={IconX} label={t("selection.clear")} onClick={onClear} />
      <span className={`${classes.count} numbers`} role="status">
        <strong>{t("selection.count", { count: images.length })}</strong>
        <span>{bytesText(bytes, localeOf(i18n.language))}</span>
      </span>
      {canAll && (
        <UnstyledButton className={`${classes.every} numbers`} onClick={onAll} disabled={busy}>
          {t(busy ? "selection.fetching" : "selection.all", { count: total })}
        </UnstyledButton>
      )}
      <Tool icon={IconFileZip} label={t("action.zip")} onClick={onZip} />
      <Tool
        icon={areFavourites ? IconHeartFilled : IconHeart}
        label={t(areFavourites ? "action.unfavourite" : "action.favourite")}
        onClick={() => onFavour(!areFavourites)}
      />
      <Tool
        icon={IconColumns2}
        label={t(images.length === 2 ? "action.compare" : "action.compareTwo")}
        disabled={images.length !== 2}
        onClick={onCompare}
      />
      <Tool icon={IconTrash} label={t("common:action.delete")} onClick={onDelete} />
    </div>
  );
}

function Tool({
  icon: Icon,
  label,
  disabled = false,
  onClick,
}: {
  icon: ComponentType<{ size: number; stroke: number }>;
  label: string;
  disabled?: boolean;
  onClick: () => void;
}) {
  return (
    <Tooltip label={label}>
      <ActionIcon
        size={44}
        radius="md"
        c={disabled ? "var(--quiet)" : "var(--mantine-color-text)"}
        aria-label={label}
        aria-disabled={disabled}
        style={disabled ? { opacity: 0.45, cursor: "default" } : undefined}
        onClick={() => !disabled && onClick()}
      >
        <Icon size={21} stroke={1.6} />
      </ActionIcon>
    </Tooltip>
  );
}
