import { ActionIcon, Modal, SegmentedControl, Title, Tooltip } from "@mantine/core";
import { useHotkeys } from "@mantine/hooks";
import { IconChevronLeft, IconChevronRight, IconX } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { type Image, imageById } from "@/api/images";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { Loading } from "@/parts/Loading";
import classes from "./Compare.module.css";
import { Differences } from "./Differences";
import { SliderHandle } from "./SliderHandle";
import { Zoomable } from "./Zoomable";
import { FITTED } from "./zoom";

/** Two pictures beside each other or one over the other, always the same part of both, and what differs in how they were made. */
export function Compare({
  ids: [leftId, rightId],
  step,
  onShow,
  onClose,
}: {
  ids: readonly [string, string];
  /** The picture before or after one in the list, where that is known. */
  step: (id: string, by: 1 | -1) => Image | undefined;
  onShow: (ids: [string, string]) => void;
  onClose: () => void;
}) {
  const { t } = useTranslation(["gallery", "common"]);
  const left = useQuery(imageById(leftId));
  const right = useQuery(imageById(rightId));
  const [mode, setMode] = useState<"side" | "slider">("side");
  const [view, setView] = useState(FITTED);
  const [from, setFrom] = useState(0.5);
  const error = left.error ?? right.error;
  useHotkeys([["0", () => setView(FITTED)]]);

  const turns = (side: "left" | "right") => {
    const [own, other] = side === "left" ? [leftId, rightId] : [rightId, leftId];
    const turn = (by: 1 | -1) => {
      let next = step(own, by);
      if (next?.id === other) next = step(other, by);
      return next && (() => onShow(side === "left" ? [next.id, rightId] : [leftId, next.id]));
    };
    const [back, forth] = [turn(-1), turn(1)];
    return (
      <div className={classes.turns} data-side={side} data-slider={mode === "slider" || undefined}>
        <ActionIcon
          size={40}
          disabled={!back}
          bg="none"
          onClick={back}
          aria-label={t(`compare.${side}Previous`)}
        >
          <IconChevronLeft size={19} />
        </ActionIcon>
        <b>{side === "left" ? "A" : "B"}</b>
        <ActionIcon
          size={40}
          disabled={!forth}
          bg="none"
          onClick={forth}
          aria-label={t(`compare.${side}Next`)}
        >
          <IconChevronRight size={19} />
        </ActionIcon>
      </div>
    );
  };

  return (
    <Modal.Root opened fullScreen onClose={onClose} transitionProps={{ transition: "fade", duration: 120 }}>
      <Modal.Overlay />
      <Modal.Content aria-label={t("compare.title")} className={classes.content} radius={0}>
        <Modal.Body className={classes.body}>
          <div className={classes.bar}>
            <Tooltip label={`${t("common:action.close")} (Esc)`}>
              <ActionIcon
                size={44}
                radius="md"
                c="var(--mantine-color-text)"
                aria-label={t("common:action.close")}
                onClick={onClose}
              >
                <IconX size={22} stroke={1.6} />
              </ActionIcon>
            </Tooltip>
            <Title order={1}>{t("compare.title")}</Title>
            <span className={classes.space} />
            <SegmentedControl
              aria-label={t("compare.mode")}
              value={mode}
              onChange={(value) => setMode(value as typeof mode)}
              data={(["side", "slider"] as const).map((value) => ({ value, label: t(`compare.${value}`) }))}
            />
          </div>
          {error && (
            <ErrorNotice error={error} onRetry={() => void Promise.all([left.refetch(), right.refetch()])} />
          )}
          {!error && !(left.data && right.data) && <Loading />}
          {left.data && right.data && (
            <>
              <div className={classes.panes} data-mode={mode}>
                {mode === "side" ? (
                  <>
                    <div className={classes.pane}>
                      <Zoomable image={left.data} view={view} onView={setView} />
                      {turns("left")}
                    </div>
                    <div className={classes.pane}>
                      <Zoomable image={right.data} view={view} onView={setView} />
                      {turns("right")}
                    </div>
                  </>
                ) : (
                  <div className={classes.pane}>
                    <Zoomable image={left.data} over={right.data} from={from} view={view} onView={setView}>
                      <SliderHandle at={from} onMove={setFrom} />
                    </Zoomable>
                    {turns("left")}
                    {turns("right")}
                  </div>
                )}
              </div>
              <Differences left={left.data} right={right.data} />
            </>
          )}
        </Modal.Body>
      </Modal.Content>
    </Modal.Root>
  );
}
