import { UnstyledButton } from "@mantine/core";
import { IconPhotoOff } from "@tabler/icons-react";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { type Image, imageUrl, thumbnailUrl } from "@/api/images";
import { useGestures } from "./useGestures";
import classes from "./Zoomable.module.css";
import { FITTED, place, type Size, scaleFor, type View } from "./zoom";

const PIXELS_FROM = 2;

/** A picture that can be zoomed and dragged; `over` lies on it, cut off left of a part of the width. */
export function Zoomable({
  image,
  over,
  from = 0,
  view,
  onView,
  onSwipe,
  children,
}: {
  image: Image;
  over?: Image;
  from?: number;
  view: View;
  onView: (view: View) => void;
  /** A swipe over a picture that is not zoomed in: 1 to the next one, -1 back. */
  onSwipe?: (by: 1 | -1) => void;
  children?: ReactNode;
}) {
  const { t } = useTranslation("gallery");
  const { pane, size, shift, handlers } = useGestures(image, view, onView, onSwipe);
  return (
    <div ref={pane} className={classes.pane} data-zoomed={view.scale > 1.001 || undefined} {...handlers}>
      {size.width > 0 && (
        <>
          <Layer key={image.id} image={image} view={view} size={size} shift={shift} />
          {over && (
            <div style={{ position: "absolute", inset: 0, clipPath: `inset(0 0 0 ${100 * from}%)` }}>
              <Layer key={over.id} image={over} view={view} size={size} shift={0} />
            </div>
          )}
        </>
      )}
      {view.scale > 1.001 && size.width > 0 && (
        <UnstyledButton
          className={`${classes.times} numbers`}
          aria-label={t("viewer.fit")}
          title={t("viewer.fit")}
          onClick={() => onView(FITTED)}
        >
          {Math.round(100 * timesOf(view, image, size))} %
        </UnstyledButton>
      )}
      {children}
    </div>
  );
}

/** How many pixels of the screen a pixel of the picture takes. */
function timesOf(view: View, image: Image, size: Size): number {
  return view.scale / scaleFor(1, image, size, window.devicePixelRatio);
}

function Layer({ image, view, size, shift }: { image: Image; view: View; size: Size; shift: number }) {
  const { t } = useTranslation(["gallery", "common"]);
  const [gone, setGone] = useState(false);
  const { width, height, left, top } = place(view, image, size);
  const times = timesOf(view, image, size);
  return (
    <div
      className={classes.layer}
      data-pixels={times >= PIXELS_FROM - 0.01 || undefined}
      style={{ width, height, transform: `translate(${left + shift}px, ${top}px)` }}
    >
      {gone ? (
        <div className={classes.gone} role="img" aria-label={t("gone.title")}>
          <IconPhotoOff size={36} stroke={1.3} aria-hidden />
          <strong>{t("gone.title")}</strong>
          <span>{t("gone.hint")}</span>
        </div>
      ) : (
        <>
          {/* The small version is there at once and keeps the place until the picture has come. */}
          <img src={thumbnailUrl(image.id)} alt="" draggable={false} />
          <img
            src={imageUrl(image.id)}
            alt={image.prompt || t("common:untitled")}
            draggable={false}
            onError={() => setGone(true)}
          />
        </>
      )}
    </div>
  );
}
