/** Puts what a job was made of back into the form, or sends it again. */

import { notifications } from "@mantine/notifications";
import { useNavigate } from "@tanstack/react-router";
import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import { type Job, type JobBody, useSubmitJob } from "@/api/jobs";
import { useForm } from "@/create/form";
import { ofGallery, useAddReference } from "@/create/reference/picking";
import { useTellError } from "@/parts/errors";

export function useReuse() {
  const { t } = useTranslation("queue");
  const navigate = useNavigate();
  const submit = useSubmitJob();
  const tellError = useTellError();
  const addReference = useAddReference();
  const { load, set } = useForm.getState();

  const show = useCallback(async () => {
    await navigate({ to: "/" });
    document.getElementById("content")?.scrollTo({ top: 0, behavior: "smooth" });
    notifications.show({ message: t("picture.taken"), autoClose: 2_500 });
  }, [navigate, t]);

  return {
    isSending: submit.isPending,
    /** All settings as they were sent, or with one picture's seed. */
    settings: (job: Job, seed?: string) => {
      load(job.request, seed);
      void show();
    },
    seed: (seed: string) => {
      set({ seed });
      void show();
    },
    reference: async (id: string, size: { width: number; height: number }) => {
      await addReference(ofGallery({ id, ...size }));
      void show();
    },
    /** Paints the same request although its pictures are there already. */
    anew: (job: Job) => {
      const seed = job.pictures[0]?.seed as unknown as number; // the server reads digits as well
      const body: Partial<JobBody> = { ...job.request, seed: job.request.seed ?? seed, reuse: false };
      submit.mutate(body, {
        onSuccess: () => notifications.show({ message: t("job.sent"), autoClose: 2_500 }),
        onError: tellError,
      });
    },
  };
}
