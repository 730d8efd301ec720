import { Button, Loader } from "@mantine/core";
import { IconBrush } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { type ClipboardEvent, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "@/api/client";
import { useRunWorkflow, type WorkflowText } from "@/api/workflows";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { useForm } from "../form";
import { useMine } from "../mine";
import { picturesIn } from "../reference/picking";
import { isSeed } from "../seeds";
import { type Chosen, changesOf, NOTHING, valuesOf } from "./choosing";
import { Needs } from "./Needs";
import type { Lora } from "./recognise";
import { Does, Remarks, Unsupported } from "./Told";
import { useExplained } from "./useExplained";
import { usePictures } from "./usePictures";
import { ValueFields } from "./ValueFields";
import classes from "./workflow.module.css";

/** What stands in the way first, then what can be changed, then what it does; Paint stays in sight. */
export function WorkflowForm(props: { workflow: WorkflowText; loras: readonly Lora[]; onClose: () => void }) {
  const { workflow, loras, onClose } = props;
  const { t } = useTranslation(["workflow", "create", "common"]);
  const navigate = useNavigate();
  const [chosen, setChosen] = useState<Chosen>(NOTHING);
  const changes = useMemo(() => changesOf(chosen, loras), [chosen, loras]);
  const { told, said, missing, error, refetch, isPending } = useExplained(workflow, changes);
  const run = useRunWorkflow(workflow);
  const change = (changed: Partial<Chosen>) => setChosen((now) => ({ ...now, ...changed }));
  const pictures = usePictures((node, picture) =>
    setChosen((now) => ({ ...now, pictures: { ...now.pictures, [node]: picture } })),
  );
  const isRetryable = !(error instanceof ApiError) || error.retryable;
  if (!told)
    return error ? (
      <ErrorNotice error={error} {...(isRetryable ? { onRetry: refetch } : {})} />
    ) : (
      <Loader type="dots" aria-label={t("reading")} />
    );

  const values = { ...valuesOf(said), ...chosen.values };
  const count = values.count ?? 1;
  const reason =
    chosen.values.seed && !isSeed(chosen.values.seed)
      ? t("create:seed.invalid")
      : error
        ? ""
        : told.unsupported.length > 0
          ? t("reason.nodes")
          : told.missing.length > 0
            ? t("reason.needs")
            : "";
  const isReady = reason === "" && told.runs && !error;
  const paint = () => {
    if (!isReady || run.isPending) return;
    run.mutate(changes, {
      onSuccess: (job) => {
        useMine.getState().add(job.id);
        const { remember, rememberSeed } = useForm.getState();
        if (job.request.prompt) remember(job.request.prompt);
        const seed = job.pictures[0]?.seed;
        if (seed) rememberSeed(seed);
        onClose();
        void navigate({ to: "/" });
      },
    });
  };
  const onPaste = (event: ClipboardEvent) => {
    const [pasted] = picturesIn(event.clipboardData);
    const place = missing.find(({ kind, node }) => kind === "picture" && !chosen.pictures[node]);
    if (!pasted || !place) return;
    event.preventDefault();
    void pictures.send(place.node, pasted);
  };

  return (
    <div className={classes.form} onPaste={onPaste}>
      <Unsupported troubles={told.unsupported} />
      {missing.length > 0 && (
        <Needs
          missing={missing}
          chosen={chosen}
          loras={loras}
          model={told.request?.model}
          sending={pictures.sending}
          onChange={change}
          onPicture={pictures.send}
        />
      )}
      {told.stages.length > 0 && (
        <ValueFields
          values={values}
          stages={told.stages.length}
          request={said}
          onChange={(value) => change({ values: { ...chosen.values, ...value } })}
        />
      )}
      <Does told={told} />
      <Remarks remarks={told.remarks} />
      <footer className={classes.foot}>
        {error && <ErrorNotice error={error} {...(isRetryable ? { onRetry: refetch } : {})} />}
        {run.error && !run.isPending && <ErrorNotice error={run.error} />}
        {reason && (
          <p className={classes.reason} id="workflow-reason" role="status">
            {reason}
          </p>
        )}
        <div className={classes.buttons}>
          <Button variant="default" radius="lg" onClick={onClose}>
            {t("common:action.cancel")}
          </Button>
          <Button
            radius="lg"
            onClick={paint}
            loading={run.isPending}
            data-disabled={!isReady || undefined}
            aria-disabled={!isReady || isPending}
            aria-describedby={reason ? "workflow-reason" : undefined}
            leftSection={<IconBrush size={18} stroke={1.7} aria-hidden />}
          >
            {t("create:paint.button", { count })}
          </Button>
        </div>
      </footer>
    </div>
  );
}
