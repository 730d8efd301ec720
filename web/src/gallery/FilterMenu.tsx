import {
  Button,
  Group,
  NativeSelect,
  Popover,
  SegmentedControl,
  Stack,
  Text,
  TextInput,
} from "@mantine/core";
import { IconAdjustmentsHorizontal } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { adapters, models } from "@/api/catalog";
import type { GallerySearch } from "./address";
import { daysAgo } from "./days";
import { activeFilters, changed, without } from "./filters";

/** Model, LoRA, shape and days, behind one button. */
export function FilterMenu({
  search,
  onSearch,
}: {
  search: GallerySearch;
  onSearch: (search: GallerySearch) => void;
}) {
  const { t } = useTranslation("gallery");
  const { data: modelList } = useQuery({ ...models, refetchInterval: false });
  const { data: adapterList } = useQuery(adapters(null));
  const active = activeFilters(search).filter((name) => name !== "q" && name !== "favourite");
  const set = (changes: Parameters<typeof changed>[1]) => onSearch(changed(search, changes));
  const choices = (names: string[], chosen: string | undefined) => [
    { value: "", label: t("filter.any") },
    // What a picture was painted with may not be installed any more.
    ...[...new Set(chosen ? [chosen, ...names] : names)],
  ];
  const recent = [
    { label: t("filter.today"), from: daysAgo(0) },
    { label: t("filter.week"), from: daysAgo(6) },
    { label: t("filter.month"), from: daysAgo(29) },
  ];

  return (
    <Popover position="bottom-start" shadow="md" radius="lg" width={330} trapFocus>
      <Popover.Target>
        <Button
          variant={active.length ? "light" : "default"}
          h={42}
          radius="md"
          leftSection={<IconAdjustmentsHorizontal size={18} stroke={1.6} />}
        >
          {active.length ? t("filter.some", { count: active.length }) : t("filter.label")}
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label={t("filter.label")}>
        <Stack gap="md" p={4}>
          <NativeSelect
            label={t("filter.model")}
            value={search.model ?? ""}
            data={choices(modelList?.models.map(({ name }) => name) ?? [], search.model)}
            onChange={(event) => set({ model: event.currentTarget.value })}
          />
          <NativeSelect
            label={t("filter.adapter")}
            value={search.adapter ?? ""}
            data={choices(adapterList?.map(({ name }) => name) ?? [], search.adapter)}
            onChange={(event) => set({ adapter: event.currentTarget.value })}
          />
          <div>
            <Text size="sm" fw={500} mb={4} id="gallery-shape">
              {t("filter.shape")}
            </Text>
            <SegmentedControl
              fullWidth
              aria-labelledby="gallery-shape"
              value={search.shape ?? "any"}
              onChange={(value) =>
                set({ shape: value === "any" ? null : (value as NonNullable<GallerySearch["shape"]>) })
              }
              data={(["any", "portrait", "landscape", "square"] as const).map((value) => ({
                value,
                label: t(`shape.${value}`),
              }))}
            />
          </div>
          <div>
            <Group gap={8} grow align="flex-end">
              <TextInput
                type="date"
                label={t("filter.from")}
                max={search.to ?? daysAgo(0)}
                value={search.from ?? ""}
                onChange={(event) => set({ from: event.currentTarget.value })}
              />
              <TextInput
                type="date"
                label={t("filter.to")}
                min={search.from ?? ""}
                value={search.to ?? ""}
                onChange={(event) => set({ to: event.currentTarget.value })}
              />
            </Group>
            <Group gap={6} mt={8}>
              {recent.map(({ label, from }) => (
                <Button
                  key={from}
                  size="compact-sm"
                  variant={search.from === from && !search.to ? "light" : "default"}
                  radius="xl"
                  onClick={() => set({ from, to: null })}
                >
                  {label}
                </Button>
              ))}
            </Group>
          </div>
          {active.length > 0 && (
            <Button variant="subtle" color="gray" onClick={() => onSearch(without(search, active))}>
              {t("clearFilters")}
            </Button>
          )}
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}
