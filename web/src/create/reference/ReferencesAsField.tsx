import { SegmentedControl } from "@mantine/core";
import { useTranslation } from "react-i18next";
import fields from "../fields/fields.module.css";
import { type ReferencesAs, useForm } from "../form";
import { useChoices } from "../useChoices";

const WAYS: readonly ReferencesAs[] = ["start", "context", "stitched"];

/** What the pictures are for, where the model can look at pictures while it paints. */
export function ReferencesAsField() {
  const { t } = useTranslation("create");
  const { referencesAs, followsPicture } = useChoices();
  return (
    <>
      <SegmentedControl
        fullWidth
        w="100%"
        size="xs"
        aria-label={t("as.label")}
        value={referencesAs}
        onChange={(as) => useForm.getState().set({ referencesAs: as as ReferencesAs })}
        data={WAYS.map((value) => ({ value, label: t(`as.${value}`) }))}
      />
      {referencesAs !== "start" && (
        <p className={fields.note}>
          {t(`as.${referencesAs}Hint`)} {followsPicture && t("as.size")}
        </p>
      )}
    </>
  );
}
