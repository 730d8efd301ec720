/** Up to three of a job's pictures, small: previews while they are painted, then thumbnails. */

import { useState } from "react";
import { thumbnailUrl } from "@/api/images";
import type { Job } from "@/api/jobs";
import { useLive } from "@/live/stream";
import classes from "./RowPictures.module.css";

const SHOWN = 3;

export function RowPictures({ job }: { job: Job }) {
  const shown = job.pictures.slice(0, SHOWN);
  const more = job.pictures.length - shown.length;
  return (
    <div className={classes.stack} aria-hidden>
      {shown.map((picture) => (
        <Small key={picture.index} job={job} index={picture.index} id={picture.image_id} />
      ))}
      {more > 0 && <b className={classes.more}>+{more}</b>}
    </div>
  );
}

function Small({ job, index, id }: { job: Job; index: number; id: string | null }) {
  const preview = useLive((state) => state.jobs[job.id]?.[index]?.preview);
  const [missing, setMissing] = useState<string | null>(null);
  const src = id !== null && id !== missing ? thumbnailUrl(id) : preview;
  return (
    <span className={classes.small}>
      {src && <img src={src} alt="" loading="lazy" decoding="async" onError={() => setMissing(id)} />}
    </span>
  );
}
