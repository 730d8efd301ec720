import { useState } from "react";
import { useUpload } from "@/api/images";
import { useTellError } from "@/parts/errors";
import { uploadUrl } from "../reference/picking";
import type { Sent } from "./choosing";

/** Sends pictures for the nodes that load them, and says for which nodes that is under way. */
export function usePictures(onSent: (node: string, picture: Sent) => void) {
  const { mutateAsync } = useUpload();
  const tell = useTellError();
  const [sending, setSending] = useState<readonly string[]>([]);
  const send = async (node: string, file: File) => {
    setSending((now) => [...now, node]);
    try {
      const { id } = await mutateAsync(file);
      onSent(node, { id, url: uploadUrl(id) });
    } catch (error) {
      tell(error);
    } finally {
      setSending((now) => now.filter((other) => other !== node));
    }
  };
  return { send, sending };
}
