import { useElementSize } from "@mantine/hooks";
import { type MouseEvent, type PointerEvent, useEffect, useRef, useState } from "react";
import { FITTED, panned, type Size, scaleFor, type View, zoomed } from "./zoom";

const SWIPE_PX = 56;

/** Wheel, drag, pinch, double click and swipe over a pane, as changes of its view. */
export function useGestures(
  picture: Size,
  view: View,
  onView: (view: View) => void,
  onSwipe?: (by: 1 | -1) => void,
) {
  const { ref, width, height } = useElementSize<HTMLDivElement>();
  const element = useRef<HTMLDivElement | null>(null);
  const pane = { width, height };
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const [shift, setShift] = useState(0);
  const isFitted = view.scale <= 1.001;

  const fromCentre = (x: number, y: number) => {
    const box = element.current?.getBoundingClientRect();
    return box ? { x: x - box.left - box.width / 2, y: y - box.top - box.height / 2 } : { x: 0, y: 0 };
  };

  const turn = useRef<(event: WheelEvent) => void>(() => {});
  turn.current = (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const scale = view.scale * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002));
    onView(zoomed(view, scale, fromCentre(event.clientX, event.clientY), picture, pane));
  };
  useEffect(() => {
    const target = element.current;
    const onWheel = (event: WheelEvent) => turn.current(event); // React's own listener could not keep the page still
    target?.addEventListener("wheel", onWheel, { passive: false });
    return () => target?.removeEventListener("wheel", onWheel);
  }, []);

  const handlers = {
    onPointerDown: (event: PointerEvent<HTMLDivElement>) => {
      if (event.button !== 0 || (event.target as HTMLElement).closest("button, a, [role=slider]")) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      pointers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    },
    onPointerMove: (event: PointerEvent<HTMLDivElement>) => {
      const before = pointers.current.get(event.pointerId);
      if (!before) return;
      const now = { x: event.clientX, y: event.clientY };
      const by = { x: now.x - before.x, y: now.y - before.y };
      const other = [...pointers.current].find(([id]) => id !== event.pointerId)?.[1];
      pointers.current.set(event.pointerId, now);
      if (other) {
        const spread = (one: { x: number; y: number }) => Math.hypot(one.x - other.x, one.y - other.y);
        const middle = fromCentre((now.x + other.x) / 2, (now.y + other.y) / 2);
        const scale = (view.scale * spread(now)) / Math.max(1, spread(before));
        onView(
          panned(zoomed(view, scale, middle, picture, pane), { x: by.x / 2, y: by.y / 2 }, picture, pane),
        );
      } else if (!isFitted) onView(panned(view, by, picture, pane));
      else if (onSwipe && event.pointerType !== "mouse") setShift((x) => x + by.x);
    },
    onPointerUp: (event: PointerEvent<HTMLDivElement>) => {
      pointers.current.delete(event.pointerId);
      if (Math.abs(shift) > SWIPE_PX) onSwipe?.(shift < 0 ? 1 : -1);
      setShift(0);
    },
    onPointerCancel: (event: PointerEvent<HTMLDivElement>) => {
      pointers.current.delete(event.pointerId);
      setShift(0);
    },
    onDoubleClick: (event: MouseEvent<HTMLDivElement>) => {
      if ((event.target as HTMLElement).closest("button, a, [role=slider]")) return;
      onView(nextZoom(view, picture, pane, fromCentre(event.clientX, event.clientY)));
    },
  };
  return {
    pane: (node: HTMLDivElement | null) => {
      element.current = node;
      ref(node as HTMLDivElement);
    },
    size: pane,
    shift,
    handlers,
  };
}

/** From the whole picture to its pixels, to twice their size, and back. */
function nextZoom(view: View, picture: Size, pane: Size, at: { x: number; y: number }): View {
  const levels = [1, 2].map((times) => scaleFor(times, picture, pane, window.devicePixelRatio));
  const next = levels.find((scale) => scale > Math.max(1, view.scale) * 1.01);
  return next === undefined ? FITTED : zoomed(view, next, at, picture, pane);
}
