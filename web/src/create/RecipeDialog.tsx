import { Button, Loader, Modal, Stack, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { useForm } from "./form";
import { useInspect } from "./recipe";
import classes from "./recipe.module.css";
import { useReference } from "./reference/picking";
import { workflowIn } from "./workflow/embedded";
import { useWorkflow } from "./workflow/opened";

/** What a dropped picture tells of how it was made, and what can be done with it. */
export function RecipeDialog({ file, onClose }: { file: File; onClose: () => void }) {
  const { t } = useTranslation(["create", "workflow", "common"]);
  const navigate = useNavigate();
  const { mutate, data, error, isPending } = useInspect();
  const { send, isSending } = useReference();
  const [url, setUrl] = useState("");
  const [workflow, setWorkflow] = useState<string>();

  useEffect(() => mutate(file), [mutate, file]);
  useEffect(() => {
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);

  useEffect(() => {
    let isWanted = true;
    workflowIn(file).then(
      (found) => isWanted && setWorkflow(found),
      () => {}, // it cannot be read; what the server says of it is told
    );
    return () => {
      isWanted = false;
    };
  }, [file]);

  const request = data?.request;
  const finish = async (message: string) => {
    onClose();
    await navigate({ to: "/" });
    notifications.show({ message });
  };
  const use = () => {
    if (!request) return;
    useForm.getState().load(request);
    void finish(t("recipe.loaded"));
  };
  const refer = async () => {
    if (await send(file)) await finish(t("recipe.referred"));
  };
  const run = (json: string) => {
    onClose();
    useWorkflow.getState().open(new File([json], file.name || "workflow.json", { type: "application/json" }));
  };
  const facts = request
    ? [
        request.model,
        request.adapters?.map(({ name }) => name).join(", "),
        request.seed !== undefined &&
          request.seed !== null &&
          t("recipe.seed", { seed: String(request.seed) }),
      ].filter(Boolean)
    : [];

  return (
    <Modal
      opened
      onClose={onClose}
      title={t("recipe.title")}
      size="lg"
      radius="lg"
      closeButtonProps={{ "aria-label": t("common:action.close") }}
    >
      <div className={classes.dialog}>
        {url && <img src={url} alt={file.name || t("recipe.picture")} className={classes.picture} />}
        <Stack gap="sm" className={classes.told}>
          {isPending && <Loader type="dots" aria-label={t("common:loading")} />}
          {error && <ErrorNotice error={error} onRetry={() => mutate(file)} />}
          {data && (
            <Text size="sm" c="dimmed">
              {t(`recipe.source.${data.source}`)}
            </Text>
          )}
          {request && (
            <>
              <Text className={classes.prompt}>{request.prompt || t("common:untitled")}</Text>
              {facts.length > 0 && (
                <Text size="sm" c="dimmed" style={{ overflowWrap: "anywhere" }}>
                  {facts.join(" · ")}
                </Text>
              )}
            </>
          )}
          {request && data.notes.length > 0 && (
            <ul className={classes.notes}>
              {data.notes.map((note) => (
                <li key={note}>{note}</li>
              ))}
            </ul>
          )}
          <div className={classes.buttons}>
            {request && <Button onClick={use}>{t("recipe.use")}</Button>}
            {workflow !== undefined && (
              <Button variant="default" onClick={() => run(workflow)}>
                {t("workflow:run")}
              </Button>
            )}
            <Button variant={request ? "default" : "filled"} loading={isSending} onClick={() => void refer()}>
              {t("recipe.refer")}
            </Button>
          </div>
        </Stack>
      </div>
    </Modal>
  );
}
