/** One preset: a picture of what it makes, its stages, and a button that puts it into the form. */

import { Button, Title } from "@mantine/core";
import { IconBrush } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Preset } from "@/api/catalog";
import { isPictured, usePresetWords } from "@/create/fields/presetNames";
import { useForm } from "@/create/form";
import { misfit, withPreset } from "@/create/presets";
import { useChoices } from "@/create/useChoices";
import { useFamily } from "@/parts/families";
import classes from "./library.module.css";
import { StageFrames, StageLines } from "./StageFrames";
import drawing from "./StageFrames.module.css";
import { summary } from "./stages";

export function PresetCard({
  preset,
  isDefault,
  side,
}: {
  preset: Preset;
  isDefault: boolean;
  /** The longest side of all presets in pixels. */
  side: number;
}) {
  const { t } = useTranslation("library");
  const { t: create } = useTranslation("create");
  const { name, explained: about } = usePresetWords(preset);
  const { form, models } = useChoices();
  const family = useFamily();
  const isMissing = misfit(preset, null, models) === "missing";
  const set = useForm((store) => store.set);
  const stages = preset.stages ?? [];
  const sum = summary(stages);
  const notes = [isDefault && t("presets.default"), !preset.shipped && t("presets.yours")].filter(Boolean);
  return (
    <article className={`surface ${classes.card}`} aria-labelledby={`preset-${preset.name}`}>
      {sum && <Picture preset={preset} side={side} />}
      <div className={classes.body}>
        <div className={classes.head}>
          <Title order={2} fz={20} className={classes.name} id={`preset-${preset.name}`}>
            {name}
          </Title>
          <span className={classes.note}>{notes.join(" · ")}</span>
        </div>
        {preset.problem ? (
          <div className={classes.trouble}>
            <strong>{t("presets.broken")}.</strong> {preset.problem}
          </div>
        ) : (
          <>
            {about && <div>{about}</div>}
            {sum && (
              <div className={`numbers ${classes.facts}`}>
                {t("presets.stages", { count: stages.length })} · {t("presets.steps", { count: sum.steps })}
                {preset.family && ` · ${t("presets.family", { family: family(preset.family) })}`}
              </div>
            )}
            <StageLines stages={stages} side={side} />
            {isMissing ? (
              <div className="quiet">{create("preset.missing", { family: family(preset.family) })}</div>
            ) : (
              <div className={classes.actions}>
                <Button
                  component={Link}
                  to="/"
                  leftSection={<IconBrush size={17} />}
                  onClick={() => set(withPreset(preset, form, models))}
                  aria-label={`${t("presets.use")}: ${name}`}
                >
                  {t("presets.use")}
                </Button>
              </div>
            )}
          </>
        )}
      </div>
    </article>
  );
}

/** The picture that came with a shipped preset; a drawing of the stages where there is none. */
function Picture({ preset, side }: { preset: Preset; side: number }) {
  const [isMissing, setMissing] = useState(!isPictured(preset));
  if (isMissing) return <StageFrames stages={preset.stages ?? []} side={side} />;
  const source = `/presets/${encodeURIComponent(preset.name)}.webp`;
  return <img className={drawing.picture} src={source} alt="" onError={() => setMissing(true)} />;
}
