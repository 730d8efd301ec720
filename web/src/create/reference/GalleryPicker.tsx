import { Modal, Skeleton, UnstyledButton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { type Image, latestImages } from "@/api/images";
import { Empty } from "@/parts/Empty";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { ofGallery, useAddReference } from "./picking";
import classes from "./reference.module.css";

const PLACES = ["a", "b", "c", "d", "e", "f", "g", "h"];

/** The newest pictures, to start from one of them or to look at it. */
export function GalleryPicker({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  const { t } = useTranslation(["create", "common"]);
  const query = useQuery({ ...latestImages({}, 48), enabled: isOpen });
  const images = query.data;
  const add = useAddReference();
  const choose = (image: Image) => {
    void add(ofGallery(image));
    onClose();
  };
  return (
    <Modal
      opened={isOpen}
      onClose={onClose}
      title={t("reference.pick")}
      size="xl"
      radius="lg"
      closeButtonProps={{ "aria-label": t("common:action.close") }}
    >
      {query.error && <ErrorNotice error={query.error} onRetry={() => void query.refetch()} />}
      {images?.length === 0 && <Empty title={t("reference.none")} hint={t("reference.noneHint")} />}
      <div className={classes.grid}>
        {query.isPending && PLACES.map((place) => <Skeleton key={place} className={classes.cell} />)}
        {images?.map((image) => (
          <UnstyledButton key={image.id} className={classes.cell} onClick={() => choose(image)}>
            <img src={image.thumbnail_url} alt={image.prompt || t("common:untitled")} loading="lazy" />
          </UnstyledButton>
        ))}
      </div>
    </Modal>
  );
}
