import { IconArrowsHorizontal } from "@tabler/icons-react";
import type { KeyboardEvent, PointerEvent } from "react";
import { useTranslation } from "react-i18next";
import classes from "./Compare.module.css";

const STEP = 0.02;

/** Where one picture ends and the other begins; dragged, or moved with the arrow keys. */
export function SliderHandle({ at, onMove }: { at: number; onMove: (at: number) => void }) {
  const { t } = useTranslation("gallery");
  const move = (next: number) => onMove(Math.min(1, Math.max(0, next)));
  const drag = (event: PointerEvent<HTMLDivElement>) => {
    if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
    const box = event.currentTarget.parentElement?.getBoundingClientRect();
    if (box) move((event.clientX - box.left) / box.width);
  };
  const press = (event: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowLeft: at - STEP, ArrowRight: at + STEP, Home: 0, End: 1 };
    const next = steps[event.key];
    if (next === undefined) return;
    event.preventDefault();
    move(next);
  };
  return (
    <div
      className={classes.handle}
      style={{ left: `${100 * at}%` }}
      role="slider"
      tabIndex={0}
      aria-label={t("compare.handle")}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(100 * at)}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={drag}
      onKeyDown={press}
    >
      <span>
        <IconArrowsHorizontal size={20} stroke={1.8} aria-hidden />
      </span>
    </div>
  );
}
