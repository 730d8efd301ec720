import { ActionIcon, Button, Slider, Text, Tooltip } from "@mantine/core";
import { IconBrush, IconX } from "@tabler/icons-react";
import { lazy, Suspense, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import fields from "../fields/fields.module.css";
import { type Picked, useForm } from "../form";
import type { Size } from "../shapes";
import { useChoices } from "../useChoices";
import { FitNote } from "./FitNote";
import classes from "./reference.module.css";
import { removed } from "./references";
import { masked, strengthWord } from "./strength";

const MaskDialog = lazy(() => import("./MaskDialog").then(({ MaskDialog }) => ({ default: MaskDialog })));

/** The chosen picture with how far to leave it, and the part of it that is painted anew. */
export function ReferenceCard({ reference }: { reference: Picked }) {
  const { t } = useTranslation("create");
  const { form, stages, abilities } = useChoices();
  const { set } = useForm.getState();
  const [isMasking, setMasking] = useState(false);
  const [isBroken, setBroken] = useState(false);
  const [seen, setSeen] = useState<Size | null>(null);
  const maskButton = useRef<HTMLButtonElement>(null);
  const denoise = form.denoise ?? (stages.length > 1 ? 0.7 : 0.6);
  const cannotMask = abilities.cannot("masks");
  // The gallery shows a smaller copy: its size is not the picture's.
  const { width, height, kind } = reference;
  const picture = width && height ? { width, height } : kind === "upload" ? seen : null;
  const label = t(form.mask ? "mask.edit" : "mask.add");
  const close = () => {
    setMasking(false);
    requestAnimationFrame(() => maskButton.current?.focus());
  };
  return (
    <div className={classes.card}>
      <div className={classes.thumb}>
        {isBroken ? (
          <span className={classes.broken}>{t("reference.broken")}</span>
        ) : (
          <img
            src={reference.url}
            alt={t("reference.alt")}
            onError={() => setBroken(true)}
            onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) =>
              setSeen({ width: naturalWidth, height: naturalHeight })
            }
          />
        )}
        {form.mask && <img className={classes.overlay} src={form.mask.url} alt="" aria-hidden />}
      </div>
      <div className={classes.controls}>
        <div className={classes.row}>
          <Text size="sm" fw={550}>
            {t(`strength.${strengthWord(denoise)}`)}
          </Text>
          <Tooltip label={t("reference.remove")}>
            <ActionIcon ml="auto" aria-label={t("reference.remove")} onClick={() => set(removed(form, 0))}>
              <IconX size={17} stroke={1.7} />
            </ActionIcon>
          </Tooltip>
        </div>
        <Slider
          thumbLabel={t("strength.label")}
          value={denoise}
          min={0.05}
          max={1}
          step={0.05}
          label={(value) => value.toFixed(2)}
          onChange={(value) => set({ denoise: Math.round(value * 100) / 100 })}
        />
        <div className={classes.ends} aria-hidden>
          <span>{t("strength.low")}</span>
          <span>{t("strength.high")}</span>
        </div>
        <div className={classes.row}>
          <Button
            variant="default"
            size="xs"
            leftSection={<IconBrush size={15} aria-hidden />}
            ref={maskButton}
            disabled={cannotMask || isBroken}
            onClick={() => setMasking(true)}
          >
            {label}
          </Button>
          {form.mask && (
            <Button variant="subtle" size="xs" onClick={() => set(masked(form, null))}>
              {t("mask.remove")}
            </Button>
          )}
        </div>
        {picture && <FitNote picture={picture} />}
        {cannotMask && <p className={fields.note}>{t("cannot.masks")}</p>}
      </div>
      {isMasking && (
        <Suspense>
          <MaskDialog reference={reference} mask={form.mask} onClose={close} />
        </Suspense>
      )}
    </div>
  );
}
