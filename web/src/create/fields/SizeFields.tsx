import { ActionIcon, Tooltip } from "@mantine/core";
import { IconArrowsExchange } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { useForm } from "../form";
import { type Size, swapped } from "../shapes";
import { resized } from "../stages/stages";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";
import { SideField } from "./SideField";

/** The finished picture's size in pixels; what is typed is brought to the next size that can be painted. */
export function SizeFields() {
  const { t } = useTranslation("create");
  const { form, size, sides } = useChoices();
  const widthError = useFieldError("size", "width");
  const heightError = useFieldError("size", "height");
  const { set } = useForm.getState();
  const choose = (next: Size) =>
    set(form.stages ? { stages: resized(form.stages, next) } : { size: next, aspectRatio: null });
  const isOwn = form.size !== null && !form.stages;
  return (
    <Field
      title={t("size.title")}
      error={widthError ?? heightError}
      aside={
        isOwn && (
          <button type="button" className={classes.link} onClick={() => set({ size: null })}>
            {t("size.auto")}
          </button>
        )
      }
    >
      <div className={classes.sizes}>
        <SideField
          label={t("size.width")}
          value={size?.width}
          limits={sides}
          onDone={(width) => size && choose({ ...size, width })}
        />
        <Tooltip label={t("size.swap")}>
          <ActionIcon size={36} aria-label={t("size.swap")} onClick={() => size && choose(swapped(size))}>
            <IconArrowsExchange size={18} stroke={1.6} />
          </ActionIcon>
        </Tooltip>
        <SideField
          label={t("size.height")}
          value={size?.height}
          limits={sides}
          onDone={(height) => size && choose({ ...size, height })}
        />
      </div>
      <p className={classes.note}>{t("size.multiple", { count: sides.multiple })}</p>
    </Field>
  );
}
