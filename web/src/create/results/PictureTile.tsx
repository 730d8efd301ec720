/** The place of one picture: waiting, on its way, painted, failed or deleted; always of the same size. */

import { Button } from "@mantine/core";
import { IconAlertTriangle, IconPhotoOff } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { memo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { imageUrl, thumbnailUrl, useRestoreImages } from "@/api/images";
import type { Job } from "@/api/jobs";
import { useLive } from "@/live/stream";
import { useTellError } from "@/parts/errors";
import { LivePlace } from "./LivePlace";
import classes from "./PictureTile.module.css";
import { useRemoved } from "./removed";
import type { Size } from "./shape";
import { isActive } from "./stream";
import { TileActions } from "./TileActions";

const THUMBNAIL = 256; // wider ones show the picture itself

type Props = {
  job: Job;
  picture: Job["pictures"][number];
  size: Size;
  stages: readonly Size[];
  width: number;
  isFavourite: boolean;
};

export const PictureTile = memo(function PictureTile(props: Props) {
  const { job, picture, size, stages, width, isFavourite } = props;
  const { t } = useTranslation("queue");
  const preview = useLive((state) => state.jobs[job.id]?.[picture.index]?.preview);
  const last = useRef<string>(undefined);
  if (preview !== undefined) last.current = preview;
  const [loaded, setLoaded] = useState<string | null>(null);
  const [missing, setMissing] = useState<string | null>(null);
  const id = picture.image_id;
  const isRemoved = useRemoved((state) => id !== null && state.ids.has(id));
  const words = {
    number: picture.index + 1,
    count: job.pictures.length,
    prompt: job.request.prompt || t("job.noPrompt"),
  };
  const isCoarse = width * window.devicePixelRatio > THUMBNAIL;

  return (
    <figure className={classes.tile} style={{ aspectRatio: `${size.width} / ${size.height}` }}>
      {id === null && picture.error === null && isActive(job) && (
        <LivePlace job={job} index={picture.index} stages={stages} isNarrow={width < 170} />
      )}
      {id === null && (picture.error !== null || !isActive(job)) && (
        <div className={classes.word}>
          <IconAlertTriangle size={22} stroke={1.5} aria-hidden />
          <span>{picture.error ? t("picture.failed") : t("picture.stopped")}</span>
        </div>
      )}
      {id !== null && (isRemoved || missing === id) && <Gone id={id} canRestore={isRemoved} />}
      {id !== null && !isRemoved && missing !== id && (
        <>
          {last.current && loaded !== id && <img className={classes.under} src={last.current} alt="" />}
          <Link
            to="/gallery"
            search={{ image: id }}
            className={classes.open}
            aria-label={t("picture.open", words)}
          >
            <img
              className={classes.picture}
              src={isCoarse ? imageUrl(id) : thumbnailUrl(id)}
              alt={t("picture.alt", words)}
              loading={isActive(job) ? "eager" : "lazy"}
              decoding="async"
              data-loaded={loaded === id || undefined}
              onLoad={() => setLoaded(id)}
              onError={() => setMissing(id)}
            />
          </Link>
          <TileActions job={job} picture={picture} imageId={id} size={size} isFavourite={isFavourite} />
        </>
      )}
    </figure>
  );
});

function Gone({ id, canRestore }: { id: string; canRestore: boolean }) {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const restore = useRestoreImages();
  const mark = useRemoved((state) => state.mark);
  const tellError = useTellError();
  return (
    <div className={classes.word}>
      <IconPhotoOff size={22} stroke={1.5} aria-hidden />
      <span>{t("picture.gone")}</span>
      {canRestore && (
        <Button
          variant="subtle"
          size="compact-sm"
          loading={restore.isPending}
          onClick={() => restore.mutate([id], { onSuccess: () => mark(id, false), onError: tellError })}
        >
          {common("action.undo")}
        </Button>
      )}
    </div>
  );
}
