import { Button } from "@mantine/core";
import { IconArrowBackUp, IconDice5, IconPhotoUp } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { ImageDetail } from "@/api/images";
import { Adapters } from "./Adapters";
import { CopyIcon, CopyText } from "./Copy";
import { type FactName, factsOf } from "./facts";
import { localeOf } from "./locale";
import classes from "./Panel.module.css";
import { Prompt } from "./Prompt";
import { Sources } from "./Sources";
import { StageList } from "./StageList";
import type { ImageActions } from "./useImageActions";

const FACTS: FactName[] = [
  "model",
  "preset",
  "size",
  "seed",
  "clipSkip",
  "created",
  "time",
  "format",
  "fileSize",
];
const MORE_FACTS: FactName[] = [
  "family",
  "modelHash",
  "backend",
  "device",
  "precision",
  "fileHash",
  "job",
  "versions",
];

/** Everything that is known of a picture, in plain words and all of it to copy, and how to go on from it. */
export function Panel({ image, actions }: { image: ImageDetail; actions: ImageActions }) {
  const { t, i18n } = useTranslation(["gallery", "common"]);
  const facts = factsOf(image, localeOf(i18n.language));
  const list = (names: FactName[]) => (
    <dl className={classes.facts}>
      {names.map((name) => {
        const value = facts[name];
        return (
          value !== undefined && (
            <div key={name} className={classes.fact}>
              <dt>{t(`fact.${name}`)}</dt>
              <dd className="numbers">
                <CopyText value={value} name={t(`fact.${name}`)} />
              </dd>
            </div>
          )
        );
      })}
    </dl>
  );

  return (
    <div className={classes.panel}>
      <Prompt title={t("fact.prompt")} text={image.prompt || t("common:untitled")} />
      <div className={classes.actions}>
        <Button
          leftSection={<IconArrowBackUp size={18} stroke={1.7} />}
          h={42}
          onClick={() => actions.again(image)}
        >
          {t("action.again")}
        </Button>
        <Button
          variant="default"
          h={42}
          px="xs"
          leftSection={<IconDice5 size={18} stroke={1.6} />}
          onClick={() => void actions.vary(image)}
          title={t("action.varyHint")}
        >
          {t("action.vary")}
        </Button>
        <Button
          variant="default"
          h={42}
          px="xs"
          leftSection={<IconPhotoUp size={18} stroke={1.6} />}
          onClick={() => actions.asReference(image)}
          title={t("action.referenceHint")}
        >
          {t("action.reference")}
        </Button>
      </div>
      {image.warnings.length > 0 && (
        <ul className={classes.warnings} aria-label={t("fact.warnings")}>
          {image.warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
      {facts.negative && <Prompt title={t("fact.negative")} text={facts.negative} quiet />}
      {image.adapters.length > 0 && <Adapters adapters={image.adapters} />}
      <Sources request={image.recipe.request} />
      <section>
        <h2 className={classes.label}>{t("panel.facts")}</h2>
        {list(FACTS)}
      </section>
      <StageList recipe={image.recipe} />
      <details className={classes.fold}>
        <summary>{t("panel.more")}</summary>
        {list(MORE_FACTS)}
      </details>
      <div className={classes.top}>
        <span className={classes.label}>{t("panel.recipe")}</span>
        <CopyIcon value={JSON.stringify(image.recipe, null, 2)} name={t("panel.recipe")} />
      </div>
    </div>
  );
}
