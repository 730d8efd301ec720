/** Sending the form: what stands in its way, what the server said to it, and the jobs that this tab has sent. */

import { useQuery } from "@tanstack/react-query";
import { createContext, useCallback, useContext, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { activeJobs, useCancelJob, useSubmitJob } from "@/api/jobs";
import { useTellError } from "@/parts/errors";
import { useFamily } from "@/parts/families";
import { type Choices, choicesOf } from "./choices";
import { EMPTY, type Form, toRequest, useForm } from "./form";
import { useMine } from "./mine";
import { misfit } from "./presets";
import { about, fieldErrors } from "./problems";
import { isSeed } from "./seeds";
import { useChoices } from "./useChoices";

export type Painting = {
  paint: () => void;
  /** Why it cannot be sent now; empty when it can. */
  reason: string;
  isSending: boolean;
  error: unknown;
  dismiss: () => void;
  /** What the server found wrong, by the request's fields, with the form that it was told of. */
  errors: Record<string, string>;
  sent: Form;
  /** Jobs of this tab that wait or run. */
  running: number;
  cancelNewest: () => void;
};

export const PaintContext = createContext<Painting | null>(null);

export function usePainting(): Painting {
  const painting = useContext(PaintContext);
  if (painting === null) throw new Error("This belongs inside the create page.");
  return painting;
}

/** What the server found wrong with a field; gone as soon as the field is changed. */
export function useFieldError(field: keyof Form, requestField: string = field): string | undefined {
  const { errors, sent } = usePainting();
  const value = useForm((state) => state.form[field]);
  return value === sent[field] ? about(errors, requestField) : undefined;
}

export function usePaint(): Painting {
  const submit = useSubmitJob();
  const cancel = useCancelJob();
  const tell = useTellError();
  const choices = useChoices();
  const reason = useReason(choices);
  const [sent, setSent] = useState(EMPTY);
  const ids = useMine((state) => state.ids);
  const { data: active } = useQuery(activeJobs);
  const mine = useMemo(() => {
    const under = new Set(active?.filter((job) => !job.cancel_requested).map((job) => job.id));
    return ids.filter((id) => under.has(id));
  }, [ids, active]);
  const { mutate, isPending, error, reset } = submit;

  const paint = useCallback(() => {
    if (reason || isPending) return;
    const { form, remember, rememberSeed } = useForm.getState();
    setSent(form);
    remember(form.prompt);
    mutate(toRequest(choicesOf(form, choices).fitting), {
      onSuccess: (job) => {
        useMine.getState().add(job.id);
        const seed = job.pictures[0]?.seed;
        if (seed) rememberSeed(seed);
      },
    });
  }, [reason, isPending, mutate, choices]);

  const cancelNewest = useCallback(() => {
    const newest = mine.at(-1);
    if (newest) cancel.mutate(newest, { onError: tell });
  }, [mine, cancel.mutate, tell]);

  return {
    paint,
    reason,
    isSending: isPending,
    error,
    dismiss: reset,
    errors: useMemo(() => fieldErrors(error), [error]),
    sent,
    running: mine.length,
    cancelNewest,
  };
}

function useReason({ form, abilities, limits, models, preset }: Choices): string {
  const { t } = useTranslation("create");
  const family = useFamily();
  if (form.seed !== null && !isSeed(form.seed)) return t("seed.invalid");
  if (form.prompt.length > limits.max_prompt) return t("prompt.tooLong", { count: limits.max_prompt });
  if (form.count > limits.max_count) return t("count.tooMany", { count: limits.max_count });
  if (preset?.problem && !form.stages) return preset.problem;
  if (abilities.problem) return abilities.problem;
  const isMissing = preset && !form.stages && misfit(preset, form.model, models) === "missing";
  if (isMissing && abilities.backend === "native")
    return t("preset.missing", { family: family(preset.family) });
  return "";
}
