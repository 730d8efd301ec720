/** What is painted and was painted of late: the newest jobs, newest first, each with its pictures. */

import { Anchor, Button, Title } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import { IconBrush } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useEffect, useMemo, useRef } from "react";
import { useTranslation } from "react-i18next";
import { activeJobs, recentJobs } from "@/api/jobs";
import { Empty } from "@/parts/Empty";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { useQueueDrawer } from "@/queue/drawer";
import { places } from "@/queue/line";
import { NoWorker } from "@/queue/NoWorker";
import { useMine } from "../mine";
import { JobGroup } from "./JobGroup";
import classes from "./Results.module.css";
import { isActive, streamOf } from "./stream";
import { useCatalog } from "./useCatalog";
import { useFavourites } from "./useFavourites";

const MOST = 40;
const MOST_ON_A_PHONE = 12;

export function Results() {
  const { t } = useTranslation("queue");
  const active = useQuery(activeJobs);
  const recent = useQuery(recentJobs);
  const catalog = useCatalog();
  const favourites = useFavourites();
  const { ref, width } = useElementSize();
  const toggle = useQueueDrawer((state) => state.toggle);
  const jobs = useMemo(() => streamOf(active.data ?? [], recent.data ?? []), [active.data, recent.data]);
  const place = useMemo(() => places(active.data ?? []), [active.data]);
  const most = width < 560 ? MOST_ON_A_PHONE : MOST;
  const shown = jobs.slice(0, most);
  const hidden = jobs.slice(most).filter(isActive).length;
  const error = recent.data === undefined ? recent.error : null;
  const top = useTopOnSent();

  return (
    <section ref={top} className={classes.results} aria-labelledby="results-title">
      <div ref={ref} className={classes.measure} />
      <Title order={2} id="results-title" className={classes.heading}>
        {t("results.title")}
      </Title>
      <NoWorker />
      {error && <ErrorNotice error={error} onRetry={() => recent.refetch()} />}
      {recent.data === undefined && !error && <div className={classes.ghost} aria-hidden />}
      {recent.data !== undefined && jobs.length === 0 && (
        <div className={classes.empty}>
          <Empty
            icon={<IconBrush size={40} stroke={1.2} aria-hidden />}
            title={t("results.emptyTitle")}
            hint={t("results.emptyHint")}
          />
        </div>
      )}
      {width > 0 &&
        shown.map((job) => (
          <JobGroup
            key={job.id}
            job={job}
            place={place.get(job.id) ?? null}
            room={width}
            catalog={catalog}
            favourites={favourites}
          />
        ))}
      {hidden > 0 && (
        <p className={classes.rest}>
          {t("results.hidden", { count: hidden })}
          <Button variant="subtle" size="compact-sm" onClick={toggle}>
            {t("results.toQueue")}
          </Button>
        </p>
      )}
      {jobs.length > 0 && (
        <p className={classes.rest}>
          <Anchor component={Link} to="/gallery" size="sm">
            {t("results.toGallery")}
          </Anchor>
        </p>
      )}
    </section>
  );
}

/** Where the newest job appears; it comes into sight when this tab has sent one, wherever somebody had scrolled to. */
function useTopOnSent() {
  const top = useRef<HTMLElement>(null);
  const newest = useMine((state) => state.ids.at(-1));
  const before = useRef(newest);
  useEffect(() => {
    if (before.current === newest) return;
    before.current = newest;
    const y = top.current?.getBoundingClientRect().top ?? 0;
    if (y < 0 || y > window.innerHeight * 0.7) top.current?.scrollIntoView({ block: "start" });
  }, [newest]);
  return top;
}
