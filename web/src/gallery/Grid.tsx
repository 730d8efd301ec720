import { useQueryClient } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  type RefObject,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { useTranslation } from "react-i18next";
import { type Image, imageById } from "@/api/images";
import { dayFinder, dayTitle } from "./days";
import classes from "./Grid.module.css";
import { beside, heightOf, type Line, lineAt, lineOf, lines } from "./layout";
import { localeOf } from "./locale";
import type { Selection } from "./selection";
import { Tile, type TileActions } from "./Tile";
import { useFrame } from "./useFrame";

export type GridProps = {
  images: readonly Image[];
  selection: Selection;
  /** What scrolls, and the height at its top that the toolbar covers. */
  scroller: RefObject<HTMLDivElement | null>;
  covered: () => number;
  stale: boolean;
  /** The picture that the keyboard goes on from, and whether it is to be shown and given the focus now. */
  current: string | null;
  returning: string | null;
  onReturned: () => void;
  actions: TileActions & { remove: (image: Image) => void };
  /** Called when the end comes near. */
  onEnd: () => void;
};

/** The pictures in rows, of which only those near the window exist. Keeps its place when pictures come in above. */
export function Grid(props: GridProps) {
  const { images, selection, scroller, covered, stale, current, returning, onReturned, actions, onEnd } =
    props;
  const { t, i18n } = useTranslation(["gallery", "common"]);
  const client = useQueryClient();
  const grid = useRef<HTMLDivElement>(null);
  const { frame, margin } = useFrame(grid, scroller);
  const all = useMemo(() => lines(images, frame, dayFinder()), [images, frame]);
  const wanted = useRef<string | null>(null);
  const rows = useVirtualizer({
    count: all.length,
    getScrollElement: () => scroller.current,
    estimateSize: useCallback((at: number) => all[at]?.height ?? 0, [all]),
    getItemKey: useCallback((at: number) => all[at]?.key ?? at, [all]),
    scrollMargin: margin,
    overscan: 4,
  });
  const shown = rows.getVirtualItems();
  useAnchor(all, images, scroller, margin);

  const lastShown = shown.at(-1)?.index ?? 0;
  useEffect(() => {
    const element = scroller.current;
    const line = all[lastShown];
    if (!element || !line) return;
    if (heightOf(all) - (line.top + line.height) < 2 * element.clientHeight) onEnd();
  }, [all, lastShown, onEnd, scroller]);

  const reveal = useCallback(
    (index: number) => {
      const element = scroller.current;
      const line = all[lineOf(all, index)];
      if (!element || !line) return;
      const [from, to] = [
        margin + line.top - covered() - 8,
        margin + line.top + line.height - element.clientHeight + 8,
      ];
      if (element.scrollTop > from) element.scrollTop = from;
      else if (element.scrollTop < to) element.scrollTop = to;
    },
    [all, covered, margin, scroller],
  );

  useEffect(() => {
    if (returning === null || all.length === 0) return;
    const index = images.findIndex(({ id }) => id === returning);
    if (index >= 0) {
      reveal(index);
      wanted.current = returning;
    }
    onReturned();
  }, [returning, all, images, reveal, onReturned]);

  // A picture that has just scrolled in can take the focus only once it is there, so this runs after every drawing.
  useLayoutEffect(() => {
    if (wanted.current === null) return;
    const tile = grid.current?.querySelector<HTMLElement>(`[data-id="${wanted.current}"]`);
    if (!tile) return;
    wanted.current = null;
    tile.focus({ preventScroll: true });
  });

  const [, redraw] = useState(0);
  const goTo = (index: number) => {
    const image = images[Math.max(0, Math.min(images.length - 1, index))];
    if (!image) return;
    wanted.current = image.id;
    reveal(images.indexOf(image));
    redraw((times) => times + 1);
  };
  const press = (event: KeyboardEvent) => {
    const at = images.findIndex(({ id }) => id === current);
    const image = images[at];
    if (!image || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = neighbour(event.key, at);
    if (next !== undefined) goTo(next);
    else if (event.key === " " || event.key === "x") actions.toggle(image, event.shiftKey);
    else if (event.key === "f") actions.favour(image);
    else if (event.key === "Delete") {
      goTo(at + 1 < images.length ? at + 1 : at - 1);
      actions.remove(image);
    } else return;
    event.preventDefault();
  };
  const neighbour = (key: string, at: number): number | undefined => {
    if (key === "ArrowRight") return at + 1;
    if (key === "ArrowLeft") return at - 1;
    if (key === "ArrowDown") return beside(all, at, 1, frame.gap);
    if (key === "ArrowUp") return beside(all, at, -1, frame.gap);
    if (key === "Home") return 0;
    return key === "End" ? images.length - 1 : undefined;
  };

  const firstShown = all[lineAt(all, (rows.scrollOffset ?? 0) - margin + covered())];
  const isCurrentThere = useMemo(() => images.some(({ id }) => id === current), [images, current]);
  const reachable = isCurrentThere ? current : images[firstShown?.start ?? 0]?.id;
  const ids = selection.ids;

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: keys that bubble up from the pictures, which are links
    <div
      ref={grid}
      className={classes.grid}
      style={{ height: heightOf(all) }}
      data-stale={stale || undefined}
      onKeyDown={press}
      onPointerOver={(event) => {
        const id = (event.target as HTMLElement).closest<HTMLElement>("[data-id]")?.dataset.id;
        if (id && event.pointerType === "mouse") void client.prefetchQuery(imageById(id));
      }}
    >
      {shown.map(({ index, key }) => {
        const line = all[index];
        if (line === undefined) return null;
        const style = { height: line.height, transform: `translateY(${line.top}px)` };
        if (line.kind === "day")
          return (
            <div key={key} className={`${classes.line} ${classes.day}`} style={style}>
              <h2>
                {dayTitle(line.day, localeOf(i18n.language), {
                  today: t("today"),
                  yesterday: t("yesterday"),
                })}
              </h2>
            </div>
          );
        return (
          <div key={key} className={classes.line} style={{ ...style, gap: frame.gap }}>
            {line.widths.map((width, at) => {
              const image = images[line.start + at];
              if (image === undefined) return null;
              const prompt = image.prompt || t("common:untitled");
              const isSelected = ids.has(image.id);
              return (
                <Tile
                  key={image.id}
                  image={image}
                  label={isSelected ? t("tile.selected", { prompt }) : prompt}
                  goneLabel={t("gone.short")}
                  width={width}
                  height={line.pictureHeight}
                  selected={isSelected}
                  selecting={ids.size > 0}
                  current={image.id === reachable}
                  actions={actions}
                />
              );
            })}
          </div>
        );
      })}
    </div>
  );
}

/** Keeps the picture at the top of the window where it is when lines change above it. */
function useAnchor(
  all: readonly Line[],
  images: readonly Image[],
  scroller: RefObject<HTMLDivElement | null>,
  margin: number,
): void {
  const anchor = useRef<{ id: string; offset: number } | null>(null);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const kept = anchor.current;
    const index = kept ? images.findIndex(({ id }) => id === kept.id) : -1;
    const line = index < 0 ? undefined : all[lineOf(all, index)];
    if (kept && line) {
      const top = margin + line.top - kept.offset;
      if (Math.abs(top - element.scrollTop) > 1) element.scrollTop = top;
    }
    const look = () => {
      const y = element.scrollTop - margin;
      const at = lineAt(all, y);
      const row = all[at]?.kind === "day" ? all[at + 1] : all[at];
      const image = y > 0 && row ? images[row.start] : undefined;
      anchor.current = image && row ? { id: image.id, offset: row.top - y } : null;
    };
    look();
    element.addEventListener("scroll", look, { passive: true });
    return () => element.removeEventListener("scroll", look);
  }, [all, images, scroller, margin]);
}
