import { IconAlertTriangle, IconPhotoOff } from "@tabler/icons-react";
import { type MouseEvent, memo, type PointerEvent, useRef, useState } from "react";
import { type Image, thumbnailUrl } from "@/api/images";
import classes from "./Tile.module.css";
import { TileTools } from "./TileTools";

const LONG_PRESS_MS = 450;
const STILL_PX = 10;

export type TileActions = {
  open: (image: Image) => void;
  toggle: (image: Image, range: boolean) => void;
  favour: (image: Image) => void;
  focus: (image: Image) => void;
};

/** One picture of the grid. Once something is selected, a click selects; a long press begins that on a touch screen. */
export const Tile = memo(function Tile({
  image,
  label,
  goneLabel,
  width,
  height,
  selected,
  selecting,
  current,
  actions,
}: {
  image: Image;
  label: string;
  goneLabel: string;
  width: number;
  height: number;
  selected: boolean;
  selecting: boolean;
  /** Whether the tab key reaches this picture; the arrow keys go on from it. */
  current: boolean;
  actions: TileActions;
}) {
  // Thousands of tiles come and go while one scrolls: what is seen only beside the pointer is made only then.
  const [near, setNear] = useState(false);
  const [gone, setGone] = useState(false);
  const press = useRef({ timer: 0, x: 0, y: 0, taken: false });

  const endPress = () => window.clearTimeout(press.current.timer);
  const beginPress = (event: PointerEvent) => {
    press.current.taken = false;
    if (event.pointerType !== "touch") return;
    press.current = {
      x: event.clientX,
      y: event.clientY,
      taken: false,
      timer: window.setTimeout(() => {
        press.current.taken = true;
        actions.toggle(image, false);
      }, LONG_PRESS_MS),
    };
  };
  const movePress = (event: PointerEvent) => {
    const { x, y } = press.current;
    if (Math.hypot(event.clientX - x, event.clientY - y) > STILL_PX) endPress();
  };
  const click = (event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.button !== 0) {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        actions.toggle(image, false);
      }
      return;
    }
    event.preventDefault();
    if (press.current.taken) press.current.taken = false;
    else if (event.shiftKey || selecting) actions.toggle(image, event.shiftKey);
    else actions.open(image);
  };

  return (
    <div
      className={classes.tile}
      style={{ width, height }}
      data-selected={selected || undefined}
      data-selecting={selecting || undefined}
      onPointerEnter={(event) => event.pointerType === "mouse" && setNear(true)}
      onPointerLeave={() => setNear(false)}
    >
      <a
        className={classes.link}
        href={`/gallery?image=${image.id}`}
        data-id={image.id}
        aria-label={label}
        title={label.length > 200 ? `${label.slice(0, 200)}…` : label}
        tabIndex={current ? 0 : -1}
        draggable={false}
        onClick={click}
        onFocus={() => {
          setNear(true);
          actions.focus(image);
        }}
        onBlur={() => setNear(false)}
        onPointerDown={beginPress}
        onPointerMove={movePress}
        onPointerUp={endPress}
        onPointerCancel={endPress}
        onContextMenu={(event) => press.current.taken && event.preventDefault()}
      >
        {gone ? (
          <span className={classes.gone}>
            <IconPhotoOff size={24} stroke={1.4} aria-hidden />
            {width > 110 && goneLabel}
          </span>
        ) : (
          <img
            className={classes.picture}
            src={thumbnailUrl(image.id)}
            alt=""
            decoding="async"
            draggable={false}
            onError={() => setGone(true)}
          />
        )}
      </a>
      {(near || selecting || image.favourite) && (
        <TileTools image={image} prompt={label} selected={selected} actions={actions} />
      )}
      {image.warnings.length > 0 && (
        <span className={classes.warned} title={image.warnings.join("\n")}>
          <IconAlertTriangle size={18} stroke={1.8} aria-hidden />
        </span>
      )}
    </div>
  );
});
