import { SegmentedControl, Slider, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { type Form, useForm } from "../form";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";

/** How the file is written. */
export function OutputFields() {
  const { t } = useTranslation("create");
  const { form } = useChoices();
  const { set } = useForm.getState();
  const error = useFieldError("format", "output");
  return (
    <Field title={t("output.title")} error={error}>
      <SegmentedControl
        fullWidth
        aria-label={t("output.title")}
        value={form.format}
        onChange={(format) => set({ format: format as Form["format"] })}
        data={[
          { value: "png", label: "PNG" },
          { value: "jpeg", label: "JPEG" },
          { value: "webp", label: "WebP" },
        ]}
      />
      {form.format !== "png" && (
        <div>
          <Text size="sm" mb={6}>
            {t("output.quality")}
            <Text span c="dimmed" ml={8} className="numbers">
              {form.quality}
            </Text>
          </Text>
          <Slider
            thumbLabel={t("output.quality")}
            value={form.quality}
            min={1}
            max={100}
            label={null}
            onChange={(quality) => set({ quality })}
          />
        </div>
      )}
    </Field>
  );
}
