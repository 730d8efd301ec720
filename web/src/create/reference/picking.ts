/** A picture from elsewhere becomes the one to start from: by its file, which is sent, or by its place in the gallery. */

import { useCallback } from "react";
import { type Image, useUpload } from "@/api/images";
import { useTellError } from "@/parts/errors";
import { type Picked, useForm } from "../form";
import { masked } from "./strength";

export const uploadUrl = (id: string) => `/api/uploads/${id}`;

/** The first picture among what was dropped or pasted. */
export function pictureIn(transfer: DataTransfer | null): File | undefined {
  return [...(transfer?.files ?? [])].find(({ type }) => type.startsWith("image/"));
}

export function ofGallery({ id, width, height }: Pick<Image, "id" | "width" | "height">): Picked {
  return { kind: "image", id, url: `/api/images/${id}/thumbnail`, width, height };
}

/** Sends a file and makes it the reference; another reference has another mask, so that the old one goes. */
export function useReference() {
  const upload = useUpload();
  const tell = useTellError();
  const { mutateAsync } = upload;
  const send = useCallback(
    async (file: Blob) => {
      try {
        const { id, width, height } = await mutateAsync(file);
        const { form, set } = useForm.getState();
        set({ reference: { kind: "upload", id, url: uploadUrl(id), width, height }, ...masked(form, null) });
      } catch (error) {
        tell(error);
      }
    },
    [mutateAsync, tell],
  );
  return { send, isSending: upload.isPending };
}
