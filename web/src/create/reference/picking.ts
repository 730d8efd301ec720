/** A picture from elsewhere becomes a reference: by its file, which is sent, or by its place in the gallery. */

import { useQueryClient } from "@tanstack/react-query";
import { useCallback } from "react";
import { type Image, useUpload } from "@/api/images";
import { useTellError } from "@/parts/errors";
import { choicesOf } from "../choices";
import { type Picked, useForm } from "../form";
import { knownCatalog } from "../useChoices";
import { added } from "./references";

export const uploadUrl = (id: string) => `/api/uploads/${id}`;

/** The pictures among what was dropped or pasted. */
export function picturesIn(transfer: DataTransfer | null): File[] {
  return [...(transfer?.files ?? [])].filter(({ type }) => type.startsWith("image/"));
}

export function ofGallery({ id, width, height }: Pick<Image, "id" | "width" | "height">): Picked {
  return { kind: "image", id, url: `/api/images/${id}/thumbnail`, width, height };
}

/** Puts a picture into the form, where the chosen model has a use for it. */
export function useAddReference(): (picture: Picked) => Promise<void> {
  const client = useQueryClient();
  return useCallback(
    async (picture) => {
      const catalog = await knownCatalog(client);
      const { form, set } = useForm.getState();
      set(added(choicesOf(form, catalog), picture));
    },
    [client],
  );
}

/** Sends a file and makes it a reference; whether that worked. */
export function useReference() {
  const upload = useUpload();
  const tell = useTellError();
  const add = useAddReference();
  const { mutateAsync } = upload;
  const send = useCallback(
    async (file: Blob): Promise<boolean> => {
      try {
        const { id, width, height } = await mutateAsync(file);
        await add({ kind: "upload", id, url: uploadUrl(id), width, height });
        return true;
      } catch (error) {
        tell(error);
        return false;
      }
    },
    [mutateAsync, tell, add],
  );
  return { send, isSending: upload.isPending };
}
