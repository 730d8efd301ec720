import { Modal, UnstyledButton, VisuallyHidden } from "@mantine/core";
import { useHotkeys } from "@mantine/hooks";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "@/api/client";
import { type Image, imageById, imageUrl } from "@/api/images";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { Loading } from "@/parts/Loading";
import { Panel } from "./Panel";
import { savePicture } from "./saving";
import type { ImageActions } from "./useImageActions";
import classes from "./Viewer.module.css";
import { ViewerBar } from "./ViewerBar";
import { useView } from "./view";
import { Zoomable } from "./Zoomable";
import { FITTED } from "./zoom";

export type ViewerProps = {
  id: string;
  /** The picture as the list knows it, which is there before its recipe. */
  known: Image | undefined;
  before: Image | undefined;
  after: Image | undefined;
  /** Where it is in the list, such as "3 / 120"; empty where that is not known. */
  position: string;
  actions: ImageActions;
  onShow: (image: Image) => void;
  onCompare: (one: Image, other: Image) => void;
  onClose: () => void;
};

/** One picture over the whole window, with everything that is known of it. */
export function Viewer({
  id,
  known,
  before,
  after,
  position,
  actions,
  onShow,
  onCompare,
  onClose,
}: ViewerProps) {
  const { t } = useTranslation(["gallery", "common"]);
  const { data: detail, error, refetch } = useQuery(imageById(id));
  const image = known ?? detail;
  const panel = useView((state) => state.panel);
  const togglePanel = () => useView.setState({ panel: !panel });
  const [{ view, of }, setView] = useState({ view: FITTED, of: id });
  const shownView = of === id ? view : FITTED;

  useEffect(() => {
    for (const neighbour of [after, before]) if (neighbour) new window.Image().src = imageUrl(neighbour.id);
  }, [before, after]);

  const other = after ?? before;
  const turn = (by: 1 | -1) => {
    const next = by > 0 ? after : before;
    if (next) onShow(next);
  };
  const remove = () => {
    if (!image) return;
    void actions.remove([image]);
    if (other) onShow(other);
    else onClose();
  };
  const compare = () => {
    if (image && other) onCompare(image, other);
  };
  useHotkeys([
    ["ArrowRight", () => turn(1)],
    ["ArrowLeft", () => turn(-1)],
    ["F", () => image && actions.favour([image], !image.favourite)],
    ["D", () => image && savePicture(image)],
    ["Delete", remove],
    ["I", togglePanel],
    ["C", compare],
    ["0", () => setView({ view: FITTED, of: id })],
  ]);

  return (
    <Modal.Root
      opened
      fullScreen
      onClose={onClose}
      transitionProps={{ transition: "fade", duration: 120 }}
      returnFocus={false}
    >
      <Modal.Overlay />
      <Modal.Content aria-label={t("viewer.label")} className={classes.content} radius={0}>
        <Modal.Body className={classes.body} data-panel={panel || undefined}>
          <div className={classes.stage}>
            <VisuallyHidden role="status">
              {image && `${position} ${image.prompt || t("common:untitled")}`}
            </VisuallyHidden>
            <ViewerBar
              image={image}
              position={position}
              panel={panel}
              onClose={onClose}
              onFavour={() => image && actions.favour([image], !image.favourite)}
              onSave={() => image && savePicture(image)}
              onCompare={other && compare}
              onDelete={remove}
              onPanel={togglePanel}
            />
            <div className={classes.canvas}>
              {image && (
                <Zoomable
                  image={image}
                  view={shownView}
                  onView={(next) => setView({ view: next, of: id })}
                  onSwipe={turn}
                />
              )}
              {!image && (error ? <Lost error={error} onRetry={() => void refetch()} /> : <Loading />)}
            </div>
            {before && (
              <UnstyledButton
                className={classes.turn}
                style={{ left: 12 }}
                aria-label={t("viewer.previous")}
                onClick={() => turn(-1)}
              >
                <IconChevronLeft size={26} stroke={1.6} aria-hidden />
              </UnstyledButton>
            )}
            {after && (
              <UnstyledButton
                className={classes.turn}
                style={{ right: 12 }}
                aria-label={t("viewer.next")}
                onClick={() => turn(1)}
              >
                <IconChevronRight size={26} stroke={1.6} aria-hidden />
              </UnstyledButton>
            )}
          </div>
          {panel && image && (
            <aside className={classes.panel} aria-label={t("viewer.panel")}>
              {detail && <Panel image={{ ...detail, favourite: image.favourite }} actions={actions} />}
              {!detail &&
                (error ? <ErrorNotice error={error} onRetry={() => void refetch()} /> : <Loading />)}
            </aside>
          )}
        </Modal.Body>
      </Modal.Content>
    </Modal.Root>
  );
}

/** In the picture's stead: what is gone does not come back by asking again. */
function Lost({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const isGone = error instanceof ApiError && error.status === 404;
  return (
    <div className={classes.lost}>
      <ErrorNotice error={error} {...(isGone ? {} : { onRetry })} />
    </div>
  );
}
