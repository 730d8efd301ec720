import { Alert, Loader, Modal } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { LARGEST_BYTES, type Recognised, recognised } from "./recognise";
import { WorkflowForm } from "./WorkflowForm";
import classes from "./workflow.module.css";

/** What a workflow of ComfyUI's would do here, what it needs, and painting it. */
export function WorkflowDialog({ file, onClose }: { file: File; onClose: () => void }) {
  const { t } = useTranslation(["workflow", "common"]);
  const isNarrow = useMediaQuery("(max-width: 40em)", undefined, { getInitialValueInEffect: false });
  const [read, setRead] = useState<(Recognised & { id: string }) | null>(null);

  useEffect(() => {
    let isWanted = true;
    setRead(null);
    const id = `${file.name} ${file.lastModified} ${performance.now()}`;
    const text = file.size > LARGEST_BYTES ? null : file.text();
    Promise.resolve(text).then(
      (json) => isWanted && setRead({ ...(json === null ? { trouble: "large" } : recognised(json)), id }),
      () => isWanted && setRead({ trouble: "json", id }), // a folder, or a file that is gone
    );
    return () => {
      isWanted = false;
    };
  }, [file]);

  return (
    <Modal
      opened
      onClose={onClose}
      title={t("title")}
      size={720}
      radius="lg"
      fullScreen={isNarrow ?? false}
      closeButtonProps={{ "aria-label": t("common:action.close") }}
      classNames={{ body: classes.body ?? "" }}
    >
      <p className={classes.file}>{file.name}</p>
      {read === null && <Loader type="dots" aria-label={t("reading")} />}
      {read && "trouble" in read && (
        <Alert color="red" variant="light" radius="lg" icon={<IconAlertTriangle />} role="alert">
          {t(`trouble.${read.trouble}`, { name: file.name })}
        </Alert>
      )}
      {read && "json" in read && (
        <WorkflowForm
          key={read.id}
          workflow={{ id: read.id, json: read.json }}
          loras={read.loras}
          onClose={onClose}
        />
      )}
    </Modal>
  );
}
