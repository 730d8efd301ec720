/** What can be done with a picture, over it: favourite, download, and a menu for the rest. */

import { ActionIcon, Menu } from "@mantine/core";
import { useClipboard } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import {
  IconCopy,
  IconDots,
  IconDownload,
  IconHeart,
  IconHeartFilled,
  IconPhotoUp,
  IconPlant,
  IconRestore,
  IconTrash,
} from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { imageUrl, useDeleteImages, useMarkFavourite } from "@/api/images";
import type { Job } from "@/api/jobs";
import { useTellError } from "@/parts/errors";
import { fileName } from "./download";
import classes from "./PictureTile.module.css";
import { useRemoved } from "./removed";
import type { Size } from "./shape";
import { useReuse } from "./useReuse";

type Props = {
  job: Job;
  picture: Job["pictures"][number];
  imageId: string;
  size: Size;
  isFavourite: boolean;
};

export function TileActions({ job, picture, imageId, size, isFavourite }: Props) {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const mark = useMarkFavourite();
  const remove = useDeleteImages();
  const markRemoved = useRemoved((state) => state.mark);
  const reuse = useReuse();
  const clipboard = useClipboard();
  const tellError = useTellError();
  const isLiked = mark.isPending ? mark.variables.favourite : isFavourite;
  const copySeed = () => {
    clipboard.copy(picture.seed);
    notifications.show({ message: `${common("action.copied")}: ${picture.seed}`, autoClose: 2_000 });
  };

  return (
    <div className={classes.actions}>
      <ActionIcon
        className={classes.action}
        aria-label={isLiked ? t("picture.unfavourite") : t("picture.favourite")}
        data-on={isLiked || undefined}
        onClick={() => mark.mutate({ ids: [imageId], favourite: !isLiked }, { onError: tellError })}
      >
        {isLiked ? <IconHeartFilled size={19} /> : <IconHeart size={19} stroke={1.7} />}
      </ActionIcon>
      <ActionIcon
        className={classes.action}
        component="a"
        href={imageUrl(imageId)}
        download={fileName(job.request.prompt ?? "", picture.seed, job.request.output?.format ?? "png")}
        aria-label={common("action.download")}
      >
        <IconDownload size={19} stroke={1.7} />
      </ActionIcon>
      <Menu position="bottom-end" withinPortal shadow="md" width={250}>
        <Menu.Target>
          <ActionIcon
            className={classes.action}
            aria-label={t("picture.actions", { number: picture.index + 1 })}
          >
            <IconDots size={19} stroke={1.7} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item
            leftSection={<IconPhotoUp size={18} stroke={1.6} />}
            onClick={() => void reuse.reference(imageId, size)}
          >
            {t("picture.reference")}
          </Menu.Item>
          <Menu.Item
            leftSection={<IconRestore size={18} stroke={1.6} />}
            onClick={() => reuse.settings(job, picture.seed)}
          >
            {t("picture.reuse")}
          </Menu.Item>
          <Menu.Item
            leftSection={<IconPlant size={18} stroke={1.6} />}
            onClick={() => reuse.seed(picture.seed)}
          >
            {t("picture.seed", { seed: picture.seed })}
          </Menu.Item>
          <Menu.Item leftSection={<IconCopy size={18} stroke={1.6} />} onClick={copySeed}>
            {t("picture.copySeed")}
          </Menu.Item>
          <Menu.Divider />
          <Menu.Item
            color="red"
            leftSection={<IconTrash size={18} stroke={1.6} />}
            onClick={() =>
              remove.mutate([imageId], { onSuccess: () => markRemoved(imageId, true), onError: tellError })
            }
          >
            {common("action.delete")}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}
