import { Collapse, UnstyledButton } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
import { IconChevronRight } from "@tabler/icons-react";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import classes from "./CreatePage.module.css";
import { CacheFields } from "./fields/CacheFields";
import { ModelField } from "./fields/ModelField";
import { NegativePrompt } from "./fields/NegativePrompt";
import { OutputFields } from "./fields/OutputFields";
import { RunFields } from "./fields/RunFields";
import { SamplingFields } from "./fields/SamplingFields";
import { SeedField } from "./fields/SeedField";
import { SizeFields } from "./fields/SizeFields";
import { StagesEditor } from "./stages/StagesEditor";
import { useDepartures } from "./useDepartures";
import { usePainting } from "./usePaint";

/** Fields of a request that are told here: what is wrong with one of them must not stay folded. */
const ADVANCED_FIELDS = new Set([
  "negative_prompt",
  "seed",
  "model",
  "width",
  "height",
  "steps",
  "cfg",
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
        aria-expanded={isOpen}
      >
        <IconChevronRight size={18} stroke={1.8} aria-hidden />
        {t("advanced.title")}
        {departures > 0 && <small>{t("advanced.changed", { count: departures })}</small>}
      </UnstyledButton>
      <Collapse expanded={isOpen}>
        <div className={classes.advanced}>
          <NegativePrompt />
          <SeedField />
          <ModelField />
          <SizeFields />
          <SamplingFields />
          <CacheFields />
          <StagesEditor />
          <OutputFields />
          <RunFields />
        </div>
      </Collapse>
    </div>
  );
}
