/** One checkpoint. */

import { Button, Title, Tooltip } from "@mantine/core";
import { IconBrush, IconPackage } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import { type Model, useHoldModel } from "@/api/catalog";
import { useForm } from "@/create/form";
import { withModel } from "@/create/presets";
import { useChoices } from "@/create/useChoices";
import { useTellError } from "@/parts/errors";
import { useFamily } from "@/parts/families";
import { bytes, shortHash } from "./amounts";
import { CopyIcon } from "./CopyIcon";
import classes from "./library.module.css";
import { ModelMemory } from "./ModelMemory";
import { Recent } from "./Recent";

export function ModelCard({ model, isDefault }: { model: Model; isDefault: boolean }) {
  const { t, i18n } = useTranslation("library");
  const set = useForm((store) => store.set);
  const family = useFamily();
  const { form, preset, models } = useChoices();
  const use = () => {
    const own = form.preset ? preset : undefined;
    set({ ...withModel(isDefault ? null : model.name, own, models), backend: null });
  };
  const able = [
    model.distilled_guidance && t("models.can.distilled_guidance"),
    model.clip_skip && t("models.can.clip_skip"),
    model.context_references > 0 && t("models.can.looks", { count: model.context_references }),
    model.edits && t("models.can.edits"),
  ].filter(Boolean);
  const notes = [isDefault && t("models.default"), model.builtin && t("models.builtin")].filter(Boolean);
  return (
    <article className={`surface ${classes.card}`} aria-labelledby={`model-${model.name}`}>
      <Recent by="model" name={model.name} instead={<IconPackage size={40} stroke={1.1} />} />
      <div className={classes.body}>
        <div className={classes.head}>
          <Title order={2} fz={20} className={classes.name} id={`model-${model.name}`}>
            {model.name}
          </Title>
          <span className={classes.note}>{notes.join(" · ")}</span>
        </div>
        <div className={`numbers ${classes.facts}`}>
          {model.family && <span>{family(model.family)}</span>}
          {model.size_bytes > 0 && (
            <span>{t("models.onDisk", { size: bytes(model.size_bytes, i18n.language) })}</span>
          )}
          {model.sha256 && (
            <span className={classes.state} style={{ gap: 2 }}>
              <Tooltip label={model.sha256} styles={{ tooltip: { overflowWrap: "anywhere" } }}>
                <code className={classes.mono}>{shortHash(model.sha256)}</code>
              </Tooltip>
              <CopyIcon text={model.sha256} label={t("copyHash")} />
            </span>
          )}
        </div>
        {able.length > 0 && <div className={classes.note}>{able.join(" · ")}</div>}
        {model.problem ? (
          <Trouble title={t("models.broken")} text={model.problem} />
        ) : (
          <>
            <ModelMemory model={model} />
            {model.load_problem && <Trouble title={t("models.loadFailed")} text={model.load_problem} />}
            <div className={classes.actions}>
              <Button component={Link} to="/" leftSection={<IconBrush size={17} />} onClick={use}>
                {t("models.paint")}
              </Button>
              <HoldButton model={model} />
            </div>
          </>
        )}
      </div>
    </article>
  );
}

function Trouble({ title, text }: { title: string; text: string }) {
  return (
    <div className={classes.trouble}>
      <strong>{title}.</strong> {text}
    </div>
  );
}

/** Loads or unloads; a checkpoint that is about to be unloaded can still be kept. */
function HoldButton({ model }: { model: Model }) {
  const { t } = useTranslation("library");
  const tell = useTellError();
  const wanted = model.loaded && !model.unloading ? "unload" : "load";
  const label = t(`models.${model.unloading ? "keep" : wanted}`);
  const { mutate, isPending } = useHoldModel(wanted);
  return (
    <Button
      variant="default"
      loading={isPending || model.loading}
      onClick={() => mutate(model.name, { onError: tell })}
      aria-label={`${label}: ${model.name}`}
    >
      {label}
    </Button>
  );
}
