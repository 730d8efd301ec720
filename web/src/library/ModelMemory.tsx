/** Whether a checkpoint is in memory, and what each of its networks holds there. */

import { Loader } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Model } from "@/api/catalog";
import { ago, bytes } from "./amounts";
import shared from "./library.module.css";
import classes from "./ModelMemory.module.css";

export function ModelMemory({ model }: { model: Model }) {
  const { t, i18n } = useTranslation("library");
  const size = (count: number) => bytes(count, i18n.language);
  const names: Record<string, string> = {
    transformer: t("models.component.transformer"),
    text_encoder: t("models.component.text_encoder"),
    vae: t("models.component.vae"),
  };
  const parts = Object.entries(model.memory_by_component).sort(([, a], [, b]) => b - a);
  const isUnderWay = model.loading || model.unloading;
  return (
    <div className={classes.memory}>
      <div className={classes.line}>
        {isUnderWay ? (
          <Loader size={14} type="oval" aria-hidden />
        ) : (
          <span className={shared.dot} data-tone={model.loaded ? "good" : undefined} aria-hidden />
        )}
        <span role="status">{state(model, t)}</span>
        {model.loaded && model.memory_bytes > 0 && (
          <span className="quiet numbers">{t("models.memory", { size: size(model.memory_bytes) })}</span>
        )}
        {model.loaded && !isUnderWay && (
          <span className="quiet">
            {model.idle_since === undefined
              ? t("models.busy")
              : t("models.idle", { time: ago(model.idle_since, Date.now() / 1000, i18n.language) })}
          </span>
        )}
      </div>
      {parts.length > 0 && (
        <>
          <div className={classes.bar} aria-hidden>
            {parts.map(([name, count]) => (
              <span key={name} style={{ flexGrow: count }} />
            ))}
          </div>
          <ul className={`numbers ${classes.parts}`}>
            {parts.map(([name, count]) => (
              <li key={name}>
                {names[name] ?? name} {size(count)}
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

function state(model: Model, t: ReturnType<typeof useTranslation<"library">>["t"]): string {
  if (model.loading) return t("models.loading");
  if (model.unloading) return t("models.unloading");
  return model.loaded ? t("models.loaded") : t("models.notLoaded");
}
