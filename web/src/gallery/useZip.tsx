import { Button, Group, Progress, Stack, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useTranslation } from "react-i18next";
import { IDS_AT_ONCE, type Image } from "@/api/images";
import { useTellError } from "@/parts/errors";
import { bytesText } from "./facts";
import { localeOf } from "./locale";
import { fetchZip, save } from "./saving";

/** Downloads pictures as a zip, with its progress in the corner of the page and word when it is saved. */
export function useZip(): (images: readonly Image[]) => Promise<void> {
  const { t, i18n } = useTranslation(["gallery", "common"]);
  const tellError = useTellError();
  const size = (bytes: number) => bytesText(bytes, localeOf(i18n.language));

  return async (images) => {
    const total = images.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
    const stopper = new AbortController();
    const progress = (done: number) => (
      <Stack gap={8}>
        <Text size="sm" className="numbers">
          {t("zip.progress", { done: size(done), total: size(total) })}
        </Text>
        <Progress value={total ? (100 * done) / total : 0} aria-label={t("zip.packing")} />
        <Group justify="flex-end">
          <Button size="compact-sm" variant="subtle" color="gray" onClick={() => stopper.abort()}>
            {t("common:action.cancel")}
          </Button>
        </Group>
      </Stack>
    );
    const id = notifications.show({
      title: t("zip.packing"),
      message: progress(0),
      autoClose: false,
      withCloseButton: false,
      loading: true,
    });
    try {
      let before = 0;
      let told = 0;
      const parts = Math.ceil(images.length / IDS_AT_ONCE);
      for (let part = 0; part < parts; part++) {
        const ids = images.slice(part * IDS_AT_ONCE, (part + 1) * IDS_AT_ONCE).map((image) => image.id);
        const zip = await fetchZip(
          ids,
          (bytes) => {
            if (Date.now() - told < 150) return;
            told = Date.now();
            notifications.update({ id, message: progress(before + bytes) });
          },
          stopper.signal,
        );
        before += zip.size;
        const url = URL.createObjectURL(zip);
        save(url, parts === 1 ? "limner.zip" : `limner-${part + 1}.zip`);
        window.setTimeout(() => URL.revokeObjectURL(url), 60_000);
      }
      notifications.update({
        id,
        loading: false,
        color: "teal",
        withCloseButton: true,
        autoClose: 10_000,
        title: t("zip.ready", { count: parts }),
        message:
          before < total // files are stored as they are, so a zip of all of them is larger
            ? t("zip.missing")
            : t("zip.saved", { count: images.length, size: size(before) }),
      });
    } catch (error) {
      notifications.hide(id);
      if (!stopper.signal.aborted) tellError(error);
    }
  };
}
