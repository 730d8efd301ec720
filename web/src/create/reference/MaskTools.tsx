import { ActionIcon, SegmentedControl, Slider, Tooltip } from "@mantine/core";
import { IconArrowBackUp, IconArrowForwardUp, IconContrast, IconPaint, IconTrash } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import classes from "./mask.module.css";
import type { Mask } from "./useMask";

/** Brush or eraser, its size, and what can be done to the whole mask. */
export function MaskTools(props: {
  mask: Mask;
  brush: number;
  onBrush: (size: number) => void;
  erases: boolean;
  onErases: (erases: boolean) => void;
}) {
  const { t } = useTranslation("create");
  const { mask } = props;
  const acts = [
    { name: "undo", icon: IconArrowBackUp, act: mask.undo, isOff: !mask.canUndo },
    { name: "redo", icon: IconArrowForwardUp, act: mask.redo, isOff: !mask.canRedo },
    { name: "invert", icon: IconContrast, act: () => mask.add({ kind: "invert" }), isOff: false },
    { name: "fill", icon: IconPaint, act: () => mask.add({ kind: "fill" }), isOff: false },
    { name: "clear", icon: IconTrash, act: () => mask.add({ kind: "clear" }), isOff: false },
  ] as const;
  return (
    <div className={classes.tools} role="toolbar" aria-label={t("mask.tools")}>
      <SegmentedControl
        aria-label={t("mask.tool")}
        value={props.erases ? "eraser" : "brush"}
        onChange={(value) => props.onErases(value === "eraser")}
        data={[
          { value: "brush", label: t("mask.brush") },
          { value: "eraser", label: t("mask.eraser") },
        ]}
      />
      <Slider
        className={classes.size}
        thumbLabel={t("mask.size")}
        value={props.brush}
        min={4}
        max={400}
        label={(value) => `${value} px`}
        onChange={props.onBrush}
      />
      <span className={classes.acts}>
        {acts.map(({ name, icon: Icon, act, isOff }) => (
          <Tooltip key={name} label={t(`mask.${name}`)}>
            <ActionIcon
              size={40}
              aria-label={t(`mask.${name}`)}
              onClick={() => !isOff && act()}
              data-disabled={isOff || undefined}
              aria-disabled={isOff}
            >
              <Icon size={20} stroke={1.6} />
            </ActionIcon>
          </Tooltip>
        ))}
      </span>
    </div>
  );
}
