/** Reading how a picture from outside was made. */

import { useMutation } from "@tanstack/react-query";
import { answer, api, type Schemas } from "@/api/client";

export type Inspection = Schemas["InspectionView"];

export function useInspect() {
  return useMutation({
    mutationFn: (file: File) =>
      answer(
        api.POST("/api/images/inspect", {
          body: { file: file as unknown as string },
          bodySerializer: () => {
            const form = new FormData();
            form.append("file", file, file.name || "picture.png");
            return form;
          },
        }),
      ),
  });
}
