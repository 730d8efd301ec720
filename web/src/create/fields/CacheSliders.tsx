import { RangeSlider, Slider, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Cache } from "../form";
import { USUAL } from "./CacheFields";

const percent = (share: number) => `${Math.round(share * 100)} %`;

/** EasyCache's threshold and the window of the schedule in which it works. */
export function CacheSliders({ cache, onChange }: { cache: Cache; onChange: (cache: Cache) => void }) {
  const { t } = useTranslation("create");
  const { reuse_threshold, start_percent, end_percent } = { ...USUAL, ...cache };
  return (
    <Stack gap={10}>
      <div>
        <Text size="sm" mb={6}>
          {t("cache.threshold")}
          <Text span c="dimmed" ml={8} className="numbers">
            {reuse_threshold.toFixed(2)}
          </Text>
        </Text>
        <Slider
          thumbLabel={t("cache.threshold")}
          value={Math.min(1, reuse_threshold)}
          min={0.01}
          max={1}
          step={0.01}
          label={null}
          onChange={(value) => onChange({ ...cache, reuse_threshold: value })}
        />
      </div>
      <div>
        <Text size="sm" mb={6}>
          {t("cache.window")}
          <Text span c="dimmed" ml={8} className="numbers">
            {percent(start_percent)} – {percent(end_percent)}
          </Text>
        </Text>
        <RangeSlider
          thumbFromLabel={t("cache.from")}
          thumbToLabel={t("cache.to")}
          value={[start_percent, end_percent]}
          min={0}
          max={1}
          minRange={0.05}
          step={0.05}
          label={null}
          onChange={([start, end]) => onChange({ ...cache, start_percent: start, end_percent: end })}
        />
      </div>
    </Stack>
  );
}
