import { UnstyledButton } from "@mantine/core";
import { IconCheck, IconHeart, IconHeartFilled } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Image } from "@/api/images";
import type { TileActions } from "./Tile";
import classes from "./Tile.module.css";

/** The check mark and the heart on a picture of the grid; the keyboard has the space bar and F for them. */
export function TileTools({
  image,
  prompt,
  selected,
  actions,
}: {
  image: Image;
  prompt: string;
  selected: boolean;
  actions: TileActions;
}) {
  const { t } = useTranslation("gallery");
  const Heart = image.favourite ? IconHeartFilled : IconHeart;
  return (
    <>
      <span className={classes.shade} />
      <UnstyledButton
        className={classes.check}
        role="checkbox"
        aria-checked={selected}
        aria-label={t("tile.select", { prompt })}
        tabIndex={-1}
        onClick={(event) => actions.toggle(image, event.shiftKey)}
      >
        <span className={classes.box}>{selected && <IconCheck size={14} stroke={3} aria-hidden />}</span>
      </UnstyledButton>
      <UnstyledButton
        className={classes.heart}
        aria-label={t("tile.favourite", { prompt })}
        aria-pressed={image.favourite}
        tabIndex={-1}
        onClick={() => actions.favour(image)}
      >
        <Heart size={20} stroke={1.8} aria-hidden />
      </UnstyledButton>
    </>
  );
}
