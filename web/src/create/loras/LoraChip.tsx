import {
  ActionIcon,
  Button,
  Group,
  NumberInput,
  Popover,
  Slider,
  Stack,
  Text,
  UnstyledButton,
} from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconPlus, IconX } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Adapter } from "@/api/catalog";
import { type LoraChoice, useForm } from "../form";
import { dropped, weighted } from "./choosing";
import classes from "./loras.module.css";
import { hasTrigger, withoutTrigger, withTrigger } from "./triggers";

const STRONGEST = 2;

/** One chosen LoRA; it opens to its weight and its trigger words. Says when it will not take effect. */
export function LoraChip(props: {
  choice: LoraChoice;
  adapter: Adapter | undefined;
  isGone: boolean;
  cannot: boolean;
}) {
  const { t } = useTranslation("create");
  const { choice, adapter } = props;
  const { name, weight } = choice;
  const change = (changes: Parameters<ReturnType<typeof useForm.getState>["set"]>[0]) =>
    useForm.getState().set(changes);
  const trigger = adapter?.trigger ?? "";
  const offered = [trigger, ...(adapter?.suggested ?? [])].filter((words) => words !== "");
  const trouble = props.isGone
    ? t("lora.gone")
    : props.cannot
      ? t("cannot.adapters")
      : adapter?.fit && adapter.fit.status !== "applied"
        ? adapter.fit.reason
        : "";
  const weigh = (next: number) => change(weighted(useForm.getState().form, name, next));
  return (
    <span className={classes.chip} data-trouble={trouble !== "" || undefined}>
      <Popover width={300} position="bottom-start" shadow="md" radius="lg" trapFocus returnFocus>
        <Popover.Target>
          <UnstyledButton className={classes.name} aria-label={t("lora.edit", { name, weight })}>
            {trouble && <IconAlertTriangle size={15} stroke={1.8} aria-hidden />}
            <span className={classes.text}>{name}</span>
            <span className="numbers">{weight}</span>
          </UnstyledButton>
        </Popover.Target>
        <Popover.Dropdown>
          <Stack gap="sm">
            <Group justify="space-between" wrap="nowrap">
              <Text fw={600} style={{ overflowWrap: "anywhere" }}>
                {name}
              </Text>
              <NumberInput
                w={84}
                aria-label={t("lora.weight")}
                value={weight}
                min={-STRONGEST}
                max={STRONGEST}
                step={0.05}
                decimalScale={2}
                clampBehavior="blur"
                onChange={(value) => value !== "" && Number.isFinite(Number(value)) && weigh(Number(value))}
              />
            </Group>
            <Slider
              thumbLabel={t("lora.weight")}
              value={weight}
              min={-STRONGEST}
              max={STRONGEST}
              step={0.05}
              label={null}
              marks={[{ value: 0 }, { value: 1 }]}
              onChange={(value) => weigh(Math.round(value * 100) / 100)}
            />
            {trouble && (
              <Text size="sm" c="red">
                {trouble}
              </Text>
            )}
            {offered.length > 0 && (
              <Group gap={6}>
                {offered.map((words) => (
                  <Words key={words} words={words} />
                ))}
              </Group>
            )}
          </Stack>
        </Popover.Dropdown>
      </Popover>
      <ActionIcon
        size={28}
        radius="xl"
        aria-label={t("lora.remove", { name })}
        onClick={() => change(dropped(useForm.getState().form, name, trigger))}
      >
        <IconX size={15} stroke={1.8} />
      </ActionIcon>
    </span>
  );
}

/** One press puts the words into the prompt, the next takes them out. */
function Words({ words }: { words: string }) {
  const { t } = useTranslation("create");
  const prompt = useForm((state) => state.form.prompt);
  const isSaid = hasTrigger(prompt, words);
  const turned = isSaid ? withoutTrigger(prompt, words) : withTrigger(prompt, words);
  return (
    <Button
      variant={isSaid ? "light" : "default"}
      size="xs"
      leftSection={isSaid ? <IconCheck size={15} aria-hidden /> : <IconPlus size={15} aria-hidden />}
      aria-pressed={isSaid}
      onClick={() => useForm.getState().set({ prompt: turned })}
    >
      {t(isSaid ? "lora.triggerIn" : "lora.triggerOut", { trigger: words })}
    </Button>
  );
}
