import { ActionIcon, Collapse, UnstyledButton } from "@mantine/core";
import { IconArrowDown, IconArrowUp, IconChevronDown, IconTrash } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Stage } from "@/api/catalog";
import { useChoices } from "../useChoices";
import { StageFields } from "./StageFields";
import classes from "./stages.module.css";

/** One stage: its numbers in a line, and its fields when it is open. */
export function StageCard(props: {
  stage: Stage;
  index: number;
  count: number;
  isOpen: boolean;
  onToggle: () => void;
  onChange: (changes: Partial<Stage>) => void;
  onRemove: () => void;
  onMove: (to: number) => void;
}) {
  const { t } = useTranslation("create");
  const { stage, index, count } = props;
  const { abilities } = useChoices();
  const number = index + 1;
  const facts = [
    t("stages.steps", { count: stage.steps ?? 20 }),
    `cfg ${stage.cfg ?? 1}`,
    typeof stage.guidance === "number" &&
      abilities.has("distilled_guidance") !== false &&
      t("stages.guidance", { guidance: stage.guidance }),
    stage.sampler ?? "euler",
    index > 0 && t("stages.denoise", { value: stage.denoise ?? 1 }),
    stage.cache && "EasyCache",
  ].filter(Boolean);
  return (
    <li className={classes.card} data-open={props.isOpen || undefined}>
      <UnstyledButton className={classes.head} onClick={props.onToggle} aria-expanded={props.isOpen}>
        <span className={classes.number} aria-hidden>
          {number}
        </span>
        <span className={classes.facts}>
          <span className={classes.size}>
            <span className="hidden">{t("stages.one", { number })}</span> {stage.width} × {stage.height}
          </span>
          <small>{facts.join(" · ")}</small>
        </span>
        <IconChevronDown size={17} stroke={1.7} className={classes.chevron} aria-hidden />
      </UnstyledButton>
      <Collapse expanded={props.isOpen} keepMounted={false}>
        <div className={classes.body}>
          <StageFields stage={stage} isFirst={index === 0} onChange={props.onChange} />
          <div className={classes.actions}>
            <ActionIcon
              aria-label={t("stages.up", { number })}
              disabled={index === 0}
              onClick={() => props.onMove(index - 1)}
            >
              <IconArrowUp size={18} stroke={1.6} />
            </ActionIcon>
            <ActionIcon
              aria-label={t("stages.down", { number })}
              disabled={index === count - 1}
              onClick={() => props.onMove(index + 1)}
            >
              <IconArrowDown size={18} stroke={1.6} />
            </ActionIcon>
            <ActionIcon
              ml="auto"
              aria-label={t("stages.remove", { number })}
              disabled={count === 1}
              onClick={props.onRemove}
            >
              <IconTrash size={18} stroke={1.6} />
            </ActionIcon>
          </div>
        </div>
      </Collapse>
    </li>
  );
}
