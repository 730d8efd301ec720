import { Button, Group, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import {
  type Image,
  type ImageDetail,
  imageById,
  useDeleteImages,
  useMarkFavourite,
  useRestoreImages,
} from "@/api/images";
import { useSubmitJob } from "@/api/jobs";
import { fromRequest, toRequest, useForm } from "@/create/form";
import { ofGallery, useAddReference } from "@/create/reference/picking";
import { useTellError } from "@/parts/errors";
import { useHidden } from "./hidden";

const UNDO_MS = 10_000;

/** What can be done with pictures, from the grid and from the viewer alike; failures are told in the corner. */
export function useImageActions() {
  const { t } = useTranslation(["gallery", "common"]);
  const navigate = useNavigate();
  const client = useQueryClient();
  const tellError = useTellError();
  const { hide, show } = useHidden();
  const { mutate: mark } = useMarkFavourite();
  const { mutateAsync: del } = useDeleteImages();
  const { mutateAsync: restore } = useRestoreImages();
  const { mutateAsync: submit } = useSubmitJob();
  const addReference = useAddReference();

  const favour = (images: readonly Image[], favourite: boolean) =>
    mark(
      { ids: images.filter((image) => image.favourite !== favourite).map(({ id }) => id), favourite },
      { onError: tellError },
    );

  const undo = async (ids: string[]) => {
    show(ids);
    try {
      await restore(ids);
    } catch (error) {
      hide(ids);
      tellError(error);
    }
  };

  const remove = async (images: readonly Image[]) => {
    const ids = images.map(({ id }) => id);
    hide(ids);
    try {
      await del(ids);
    } catch (error) {
      show(ids);
      tellError(error);
      return;
    }
    const notice = notifications.show({
      autoClose: UNDO_MS,
      role: "status",
      message: (
        <Group justify="space-between" wrap="nowrap">
          <Text size="sm">{t("deleted", { count: ids.length })}</Text>
          <Button
            size="compact-sm"
            variant="light"
            onClick={() => {
              notifications.hide(notice);
              void undo(ids);
            }}
          >
            {t("common:action.undo")}
          </Button>
        </Group>
      ),
    });
  };

  /** Puts everything that made the picture into the form. */
  const again = (image: ImageDetail) => {
    useForm.getState().load({ ...image.recipe.request, count: 1 }, image.seed);
    void navigate({ to: "/" });
  };

  const againById = async (id: string) => {
    try {
      again(await client.fetchQuery(imageById(id)));
    } catch (error) {
      tellError(error);
    }
  };

  const asReference = async (image: Image) => {
    await addReference(ofGallery(image));
    void navigate({ to: "/" });
  };

  /** Paints another picture with the same settings; the form stays as it is. */
  const vary = async (image: ImageDetail) => {
    try {
      await submit(toRequest({ ...fromRequest(image.recipe.request), count: 1, seed: null }));
      const notice = notifications.show({
        role: "status",
        message: (
          <Group justify="space-between" wrap="nowrap">
            <Text size="sm">{t("varying")}</Text>
            <Button
              size="compact-sm"
              variant="light"
              onClick={() => {
                notifications.hide(notice);
                void navigate({ to: "/" });
              }}
            >
              {t("watch")}
            </Button>
          </Group>
        ),
      });
    } catch (error) {
      tellError(error);
    }
  };

  return { favour, remove, again, againById, asReference, vary };
}

export type ImageActions = ReturnType<typeof useImageActions>;
