/** Jobs that wait, in the order in which they will be begun, with the means to change that order. */

import { Button, Group, Modal, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useMemo } from "react";
import { useTranslation } from "react-i18next";
import { type Job, useCancelJobs, usePrioritiseJobs } from "@/api/jobs";
import { useTellError } from "@/parts/errors";
import { JobRow } from "./JobRow";
import { inLine, laneOf, moved } from "./line";
import classes from "./QueueList.module.css";

type Props = { all: readonly Job[]; shown: readonly Job[]; onLeave?: () => void };

export function WaitingLine({ all, shown, onLeave }: Props) {
  const { t } = useTranslation("queue");
  const [isAsking, asking] = useDisclosure();
  const cancelAll = useCancelJobs();
  const prioritise = usePrioritiseJobs();
  const tellError = useTellError();
  const line = useMemo(() => inLine(all), [all]);
  const lanes = useMemo(
    () => ({
      native: line.filter((job) => laneOf(job) === "native"),
      remote: line.filter((job) => laneOf(job) === "remote"),
    }),
    [line],
  );
  const visible = useMemo(() => new Set(shown.map((job) => job.id)), [shown]);
  const waiting = line.filter((job) => visible.has(job.id));
  if (waiting.length === 0) return null;

  const move = (lane: readonly Job[], from: number, to: number) => {
    const changes = moved(lane, from, to);
    if (changes === null) notifications.show({ message: t("line.full"), color: "yellow" });
    else prioritise.mutate(changes, { onError: tellError });
  };

  return (
    <section aria-label={t("line.waiting")}>
      <div className={classes.head}>
        <h2 className={classes.title}>{t("line.waiting")}</h2>
        <Button variant="subtle" size="compact-sm" color="red" onClick={asking.open}>
          {t("line.cancelAll")}
        </Button>
      </div>
      {line.length > 1 && (
        <p className={classes.hint}>
          {t("line.order")} {lanes.native.length > 0 && lanes.remote.length > 0 && t("line.other")}
        </p>
      )}
      <ul className={classes.rows}>
        {waiting.map((job) => {
          const lane = lanes[laneOf(job)];
          const place = lane.indexOf(job);
          return (
            <JobRow
              key={job.id}
              job={job}
              place={place}
              {...(onLeave ? { onLeave } : {})}
              moves={{
                isBusy: prioritise.isPending,
                isFirst: place === 0,
                isLast: place === lane.length - 1,
                front: () => move(lane, place, 0),
                up: () => move(lane, place, place - 1),
                down: () => move(lane, place + 1, place),
              }}
            />
          );
        })}
      </ul>
      <Modal opened={isAsking} onClose={asking.close} title={t("line.confirmTitle", { count: line.length })}>
        <Text size="sm">{t("line.confirmText")}</Text>
        <Group justify="flex-end" mt="lg">
          <Button variant="default" onClick={asking.close} data-autofocus>
            {t("line.keep")}
          </Button>
          <Button
            color="red"
            loading={cancelAll.isPending}
            onClick={() =>
              cancelAll.mutate(
                line.map((job) => job.id),
                { onError: tellError, onSettled: asking.close },
              )
            }
          >
            {t("line.cancelAll")}
          </Button>
        </Group>
      </Modal>
    </section>
  );
}
