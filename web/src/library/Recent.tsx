/** The latest pictures that were painted with a model or a LoRA, at the head of its card; a link to all of them. */

import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { latestImages, thumbnailUrl } from "@/api/images";
import classes from "./Recent.module.css";

const SHOWN = 3;

export function Recent({
  by,
  name,
  instead,
}: {
  by: "model" | "adapter";
  name: string;
  /** Drawn where nothing was painted with it yet. */
  instead: ReactNode;
}) {
  const { t } = useTranslation("library");
  const { data: images = [] } = useQuery(latestImages({ [by]: name }, SHOWN));
  if (images.length === 0)
    return (
      <div className={classes.blank} aria-hidden>
        {instead}
      </div>
    );
  return (
    <Link to="/gallery" search={{ [by]: name }} className={classes.strip} aria-label={t("recent", { name })}>
      {images.map((image) => (
        <img key={image.id} src={thumbnailUrl(image.id)} alt="" loading="lazy" />
      ))}
    </Link>
  );
}
