import { type RefObject, useLayoutEffect, useMemo, useState } from "react";
import type { Frame } from "./layout";
import { type GridSize, useView } from "./view";

const TARGETS: Record<GridSize, number> = { small: 132, medium: 212, large: 340 };
const PHONE_TARGETS: Record<GridSize, number> = { small: 112, medium: 158, large: 240 };
const PHONE_PX = 600;

/** The room that the grid has, how high its rows should be, and how far below the top of what scrolls it begins. */
export function useFrame(
  grid: RefObject<HTMLElement | null>,
  scroller: RefObject<HTMLElement | null>,
): { frame: Frame; margin: number } {
  const size = useView((state) => state.size);
  const [{ width, margin }, setRoom] = useState({ width: 0, margin: 0 });
  useLayoutEffect(() => {
    const measure = () => {
      const room = { width: grid.current?.clientWidth ?? 0, margin: grid.current?.offsetTop ?? 0 };
      setRoom((known) => (known.width === room.width && known.margin === room.margin ? known : room));
    };
    measure();
    const observer = new ResizeObserver(measure);
    for (const element of [grid.current, scroller.current, ...(grid.current?.parentElement?.children ?? [])])
      if (element) observer.observe(element);
    return () => observer.disconnect();
  }, [grid, scroller]);
  const frame = useMemo(() => {
    const isPhone = width < PHONE_PX;
    return {
      width,
      target: (isPhone ? PHONE_TARGETS : TARGETS)[size],
      gap: isPhone ? 4 : 8,
      dayHeight: isPhone ? 40 : 50,
    };
  }, [width, size]);
  return { frame, margin };
}
