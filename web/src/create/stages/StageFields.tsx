import { Select, Slider, Switch, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Stage } from "@/api/catalog";
import { isShown, MAX_GUIDANCE } from "../abilities";
import { USUAL } from "../fields/CacheFields";
import { CacheSliders } from "../fields/CacheSliders";
import fields from "../fields/fields.module.css";
import { NumberField } from "../fields/NumberField";
import { SideField } from "../fields/SideField";
import { useChoices } from "../useChoices";

/** The fields of one stage. */
export function StageFields(props: {
  stage: Stage;
  isFirst: boolean;
  onChange: (changes: Partial<Stage>) => void;
}) {
  const { t } = useTranslation("create");
  const { stage, isFirst, onChange } = props;
  const { abilities, presets, sides, limits } = useChoices();
  const isTold = isShown(abilities, "distilled_guidance", stage.guidance);
  return (
    <>
      <div className={fields.pair}>
        {(["width", "height"] as const).map((side) => (
          <SideField
            key={side}
            label={t(`size.${side}`)}
            value={stage[side]}
            limits={sides}
            onDone={(value) => onChange({ [side]: value })}
          />
        ))}
        <NumberField
          label={t("sampling.steps")}
          value={stage.steps ?? 20}
          onValue={(steps) => steps && onChange({ steps })}
          min={1}
          max={limits.max_steps}
          allowDecimal={false}
        />
        <NumberField
          label={t("sampling.cfg")}
          value={stage.cfg ?? 1}
          onValue={(cfg) => cfg !== null && onChange({ cfg })}
          min={0}
          max={limits.max_cfg}
          step={0.5}
          disabled={abilities.cannot("guidance")}
        />
        {isTold && (
          <NumberField
            label={t("sampling.guidance")}
            placeholder={t("sampling.fromFamily")}
            value={stage.guidance}
            onValue={(guidance) => onChange({ guidance })}
            min={0}
            max={MAX_GUIDANCE}
            step={0.1}
            decimalScale={2}
          />
        )}
        <Select
          label={t("sampling.sampler")}
          data={[...(abilities.capabilities?.samplers ?? presets?.samplers ?? [])]}
          value={stage.sampler ?? "euler"}
          onChange={(sampler) => sampler && onChange({ sampler })}
          searchable
          allowDeselect={false}
        />
        <Select
          label={t("sampling.schedule")}
          data={[...(abilities.capabilities?.schedules ?? presets?.schedules ?? [])]}
          value={stage.schedule ?? "simple"}
          onChange={(schedule) => schedule && onChange({ schedule })}
          searchable
          allowDeselect={false}
        />
      </div>
      {isFirst ? (
        <p className={fields.note}>{t("stages.first")}</p>
      ) : (
        <div>
          <Text size="sm" mb={6}>
            {t("stages.howFar")}
            <Text span c="dimmed" ml={8} className="numbers">
              {(stage.denoise ?? 1).toFixed(2)}
            </Text>
          </Text>
          <Slider
            thumbLabel={t("stages.howFar")}
            value={stage.denoise ?? 1}
            min={0.05}
            max={1}
            step={0.05}
            label={null}
            onChange={(denoise) => onChange({ denoise })}
          />
        </div>
      )}
      <Switch
        label="EasyCache"
        checked={Boolean(stage.cache)}
        onChange={(event) => onChange({ cache: event.currentTarget.checked ? USUAL : null })}
      />
      {stage.cache && <CacheSliders cache={stage.cache} onChange={(cache) => onChange({ cache })} />}
    </>
  );
}
