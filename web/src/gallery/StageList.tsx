import { useTranslation } from "react-i18next";
import type { ImageDetail } from "@/api/images";
import { durationText, sizeText } from "./facts";
import classes from "./Panel.module.css";

/** The stages that a picture went through, what each did and what it cost. */
export function StageList({ recipe }: { recipe: ImageDetail["recipe"] }) {
  const { t } = useTranslation("gallery");
  const { stages } = recipe.plan;
  return (
    <section>
      <h2 className={classes.label}>
        {stages.length === 1 ? t("panel.painted") : t("panel.stages", { number: stages.length })}
      </h2>
      <ol className={classes.stages}>
        {stages.map((stage, at) => {
          const cost = recipe.outcome?.[at];
          const words = [
            t("stage.steps", { count: stage.steps }),
            t("stage.cfg", { cfg: stage.cfg }),
            typeof stage.guidance === "number" && t("stage.guidance", { guidance: stage.guidance }),
            `${stage.sampler}, ${stage.schedule}`,
            stage.shift !== null && stage.shift !== undefined && t("stage.shift", { shift: stage.shift }),
            stage.denoise !== 1 && t("stage.denoise", { denoise: stage.denoise }),
          ].filter((word) => word !== false);
          return (
            // biome-ignore lint/suspicious/noArrayIndexKey: stages are told apart by nothing but their place
            <li key={at} className={`${classes.stage} numbers`}>
              <strong>
                {sizeText(stage.width, stage.height)}
                {cost && <span>{durationText(cost.duration_s)}</span>}
              </strong>
              {/* Lines break between the words for two things, never inside of one. */}
              <p>{words.map((word) => word.replaceAll(" ", "\u00a0")).join(" · ")}</p>
              {stage.cache && (
                <p>
                  {cost
                    ? t("stage.cache", { skipped: cost.skipped, evaluations: cost.evaluations })
                    : t("stage.cacheOn")}
                </p>
              )}
            </li>
          );
        })}
      </ol>
    </section>
  );
}
