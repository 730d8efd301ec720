import { ActionIcon, Tooltip, UnstyledButton } from "@mantine/core";
import { useClipboard } from "@mantine/hooks";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import classes from "./Panel.module.css";

/** A value that is copied with a click. */
export function CopyText({ value, name }: { value: string; name: string }) {
  const { t } = useTranslation(["gallery", "common"]);
  const clipboard = useClipboard({ timeout: 1500 });
  return (
    <Tooltip label={t(clipboard.copied ? "common:action.copied" : "copy", { name })} position="left">
      <UnstyledButton className={classes.value} onClick={() => clipboard.copy(value)}>
        {value}
      </UnstyledButton>
    </Tooltip>
  );
}

/** A button that copies a longer text. */
export function CopyIcon({ value, name }: { value: string; name: string }) {
  const { t } = useTranslation(["gallery", "common"]);
  const clipboard = useClipboard({ timeout: 1500 });
  const label = t(clipboard.copied ? "common:action.copied" : "copy", { name });
  return (
    <Tooltip label={label}>
      <ActionIcon size={34} aria-label={label} onClick={() => clipboard.copy(value)}>
        {clipboard.copied ? <IconCheck size={17} /> : <IconCopy size={17} stroke={1.6} />}
      </ActionIcon>
    </Tooltip>
  );
}
