/** One job: its pictures, or their places while they are painted, and below them what is to be known of it. */

import { memo, useMemo } from "react";
import { useTranslation } from "react-i18next";
import type { Job } from "@/api/jobs";
import { JobCaption } from "./JobCaption";
import classes from "./JobGroup.module.css";
import { JobNotes } from "./JobNotes";
import { JobStatusLine } from "./JobStatusLine";
import { GAP, layout } from "./layout";
import { PictureTile } from "./PictureTile";
import { type Catalog, pictureSize, type Size, stageSizes } from "./shape";
import { isActive, painted } from "./stream";

/** As much room beside a picture has its words there. */
const ROOM_BESIDE = 290;
const NARROWEST = 440;

/** A tiny picture is not blown up to a wall of blur. */
const tallest = ({ height }: Size) => (height > 16 ? Math.min(640, height * 4) : undefined);

type Props = {
  job: Job;
  place: number | null;
  room: number;
  catalog: Catalog;
  favourites: ReadonlySet<string>;
};

export const JobGroup = memo(function JobGroup({ job, place, room, catalog, favourites }: Props) {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const size = useMemo(() => pictureSize(job.request, catalog), [job.request, catalog]);
  const stages = useMemo(() => stageSizes(job.request, catalog), [job.request, catalog]);
  // A job that ended without any picture needs no places for them: what happened is said in their stead.
  const isBare = !isActive(job) && painted(job).length === 0;
  const shown = job.status === "cancelled" ? painted(job) : job.pictures;
  // Who waits behind others takes little room until it is begun.
  const isFar = job.status === "pending" && (place ?? 0) > 0;
  const { columns, width } = layout(
    shown.length,
    size.width / size.height,
    room,
    isFar ? 150 : shown.length === 1 ? tallest(size) : undefined,
  );
  const wide = columns * (width + GAP) - GAP;
  const isBeside = !isBare && columns === 1 && room - wide >= ROOM_BESIDE;
  const prompt = job.request.prompt || t("job.noPrompt");

  return (
    <article
      className={classes.group}
      data-beside={isBeside || undefined}
      style={{ maxWidth: isBare ? 720 : isBeside ? wide + 480 : Math.max(wide, NARROWEST) }}
      aria-label={t("job.label", { status: common(`status.${job.status}`), prompt })}
    >
      {!isBare && (
        <div className={classes.pictures} style={{ gridTemplateColumns: `repeat(${columns}, ${width}px)` }}>
          {shown.map((picture) => (
            <PictureTile
              key={picture.index}
              job={job}
              picture={picture}
              size={size}
              stages={stages}
              width={width}
              isFavourite={picture.image_id !== null && favourites.has(picture.image_id)}
            />
          ))}
        </div>
      )}
      <div className={classes.words}>
        {isActive(job) && <JobStatusLine job={job} place={place} />}
        <JobNotes job={job} />
        <JobCaption job={job} size={size} catalog={catalog} />
      </div>
    </article>
  );
});
