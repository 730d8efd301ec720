/** Jobs that run, jobs that wait in their order, and jobs that ended lately; with a filter and a search. */

import { Button, CloseButton, SegmentedControl, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconCoffee, IconSearch } from "@tabler/icons-react";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { activeJobs, type JobStatus, jobPages } from "@/api/jobs";
import { isActive, streamOf } from "@/create/results/stream";
import { Empty } from "@/parts/Empty";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { JobRow } from "./JobRow";
import { NoWorker } from "./NoWorker";
import classes from "./QueueList.module.css";
import { WaitingLine } from "./WaitingLine";

const ENDED: JobStatus[] = ["completed", "partial", "failed", "cancelled"];
const FILTERS: Record<string, JobStatus[]> = {
  all: ENDED,
  completed: ["completed"],
  failed: ["failed", "partial"],
  cancelled: ["cancelled"],
};

export function QueueList({ onLeave }: { onLeave?: () => void }) {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const [filter, setFilter] = useState("all");
  const [words, setWords] = useState("");
  const [search] = useDebouncedValue(words.trim(), 300);
  const active = useQuery(activeJobs);
  const ended = useInfiniteQuery(
    jobPages({ status: FILTERS[filter] ?? ENDED, ...(search ? { search } : {}) }),
  );
  const matching = useMemo(() => {
    const wanted = search.toLowerCase();
    const jobs = filter === "all" ? (active.data ?? []) : [];
    return jobs.filter((job) => (job.request.prompt ?? "").toLowerCase().includes(wanted));
  }, [active.data, filter, search]);
  const running = matching.filter((job) => job.status === "processing").reverse();
  const past = useMemo(
    () => streamOf([], ended.data?.pages.flatMap((page) => page.jobs) ?? []).filter((job) => !isActive(job)),
    [ended.data],
  );
  const isWhole = filter === "all" && search === "";
  const isNothing = ended.data !== undefined && matching.length === 0 && past.length === 0;

  return (
    <div className={classes.list}>
      <NoWorker />
      <div className={classes.tools}>
        <SegmentedControl
          value={filter}
          onChange={setFilter}
          aria-label={t("line.filter")}
          radius="xl"
          size="sm"
          data={[
            { value: "all", label: t("line.all") },
            ...(["completed", "failed", "cancelled"] as const).map((value) => ({
              value,
              label: common(`status.${value}`),
            })),
          ]}
        />
        <TextInput
          className={classes.search}
          value={words}
          onChange={(event) => setWords(event.currentTarget.value)}
          aria-label={t("line.search")}
          placeholder={t("line.search")}
          leftSection={<IconSearch size={17} stroke={1.6} aria-hidden />}
          rightSection={
            words && <CloseButton size="sm" onClick={() => setWords("")} aria-label={t("line.clear")} />
          }
          radius="xl"
        />
      </div>
      {active.error && active.data === undefined && (
        <ErrorNotice error={active.error} onRetry={() => active.refetch()} />
      )}
      {active.data !== undefined && isWhole && matching.length === 0 && (
        <div className={classes.empty}>
          <Empty
            icon={<IconCoffee size={34} stroke={1.3} aria-hidden />}
            title={t("line.emptyTitle")}
            hint={t("line.emptyHint")}
          />
        </div>
      )}
      {running.length > 0 && (
        <section aria-label={t("line.running")}>
          <h2 className={classes.title}>{t("line.running")}</h2>
          <ul className={classes.rows}>
            {running.map((job) => (
              <JobRow key={job.id} job={job} {...(onLeave ? { onLeave } : {})} />
            ))}
          </ul>
        </section>
      )}
      <WaitingLine all={active.data ?? []} shown={matching} {...(onLeave ? { onLeave } : {})} />
      {ended.error && ended.data === undefined && (
        <ErrorNotice error={ended.error} onRetry={() => ended.refetch()} />
      )}
      {past.length > 0 && (
        <section aria-label={t("line.ended")}>
          <h2 className={classes.title}>{t("line.ended")}</h2>
          <ul className={classes.rows}>
            {past.map((job) => (
              <JobRow key={job.id} job={job} {...(onLeave ? { onLeave } : {})} />
            ))}
          </ul>
          {ended.hasNextPage && (
            <Button
              variant="default"
              radius="xl"
              mt="md"
              loading={ended.isFetchingNextPage}
              onClick={() => ended.fetchNextPage()}
            >
              {t("line.more")}
            </Button>
          )}
        </section>
      )}
      {isNothing && !isWhole && (
        <Empty title={t("line.noneTitle")} hint={t("line.noneHint")}>
          <Button
            variant="default"
            radius="xl"
            onClick={() => {
              setWords("");
              setFilter("all");
            }}
          >
            {t("line.showAll")}
          </Button>
        </Empty>
      )}
    </div>
  );
}
