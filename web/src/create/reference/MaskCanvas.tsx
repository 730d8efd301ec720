import { type PointerEvent, type RefObject, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import classes from "./mask.module.css";
import { type Act, type Point, perform, placed } from "./strokes";
import { COLOUR, type Mask } from "./useMask";

/** The canvas over the picture. Mouse, pen and finger paint alike; a circle shows how large the brush is. */
export function MaskCanvas(props: {
  canvas: RefObject<HTMLCanvasElement | null>;
  size: { width: number; height: number };
  mask: Mask;
  brush: number;
  erases: boolean;
}) {
  const { t } = useTranslation("create");
  const { canvas, size, mask, brush, erases } = props;
  const points = useRef<Point[] | null>(null);
  const [cursor, setCursor] = useState<{ x: number; y: number; scale: number } | null>(null);

  const follow = (event: PointerEvent<HTMLCanvasElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    setCursor({ x: event.clientX - box.left, y: event.clientY - box.top, scale: box.width / size.width });
    const context = event.currentTarget.getContext("2d");
    if (!points.current || !context) return;
    const from = points.current.at(-1);
    const moves = event.nativeEvent.getCoalescedEvents?.() ?? [];
    const added = (moves.length ? moves : [event.nativeEvent]).map(({ clientX, clientY }) =>
      placed({ x: clientX, y: clientY }, box, size),
    );
    points.current.push(...added);
    perform(context, stroke(from ? [from, ...added] : added), COLOUR);
  };

  const stroke = (drawn: Point[]): Act => ({ kind: "stroke", points: drawn, size: brush, erases });

  const end = () => {
    if (points.current) mask.add(stroke(points.current));
    points.current = null;
  };

  return (
    <>
      <canvas
        ref={canvas}
        width={size.width}
        height={size.height}
        className={classes.canvas}
        aria-label={t("mask.canvas")}
        onPointerDown={(event) => {
          if (event.button !== 0 || points.current) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          points.current = [];
          follow(event);
        }}
        onPointerMove={follow}
        onPointerUp={end}
        onPointerCancel={() => {
          points.current = null;
          mask.redraw();
        }}
        onPointerLeave={() => setCursor(null)}
      />
      {cursor && (
        <span
          className={classes.cursor}
          style={{ left: cursor.x, top: cursor.y, width: brush * cursor.scale, height: brush * cursor.scale }}
          aria-hidden
        />
      )}
    </>
  );
}
