import { Collapse, UnstyledButton } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
import { IconChevronRight } from "@tabler/icons-react";
import { lazy, Suspense, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import classes from "./CreatePage.module.css";
import { useDepartures } from "./useDepartures";
import { usePainting } from "./usePaint";

const fetchFields = () => import("./AdvancedFields");
const prefetch = () => void fetchFields().catch(() => undefined); // it is told when the fold opens
const AdvancedFields = lazy(() => fetchFields().then(({ AdvancedFields }) => ({ default: AdvancedFields })));

/** Fields of a request that are told here: what is wrong with one of them must not stay folded. */
const ADVANCED_FIELDS = new Set([
  "negative_prompt",
  "seed",
  "model",
  "width",
  "height",
  "steps",
  "cfg",
  "guidance",
  "clip_skip",
  "sampler",
  "schedule",
  "shift",
  "cache",
  "stages",
  "output",
  "priority",
  "backend",
]);

/** Everything that the preset decides otherwise; folded until somebody wants it, and it stays as it was left. */
export function Advanced() {
  const { t } = useTranslation("create");
  const [isOpen, setOpen] = useLocalStorage({ key: "limner-advanced-open", defaultValue: false });
  const [wasOpen, setWasOpen] = useState(isOpen);
  if (isOpen && !wasOpen) setWasOpen(true);
  const departures = useDepartures();
  const { errors } = usePainting();
  useEffect(() => {
    if (Object.keys(errors).some((name) => ADVANCED_FIELDS.has(name.split(".")[0] ?? ""))) setOpen(true);
  }, [errors, setOpen]);
  return (
    <div>
      <hr className={classes.divider} />
      <UnstyledButton
        className={classes.fold}
        mt={10}
        onClick={() => setOpen(!isOpen)}
        onPointerEnter={() => prefetch()}
        onFocus={() => prefetch()}
        aria-expanded={isOpen}
      >
        <IconChevronRight size={18} stroke={1.8} aria-hidden />
        {t("advanced.title")}
        {departures > 0 && <small>{t("advanced.changed", { count: departures })}</small>}
      </UnstyledButton>
      <Collapse expanded={isOpen}>
        <div className={classes.advanced}>
          <Suspense>{wasOpen && <AdvancedFields />}</Suspense>
        </div>
      </Collapse>
    </div>
  );
}
