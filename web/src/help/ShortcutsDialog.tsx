/** The list of shortcuts over whatever page is open. */

import { Modal } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useShortcutsDialog } from "./dialog";
import { ShortcutsTable } from "./ShortcutsTable";

export function ShortcutsDialog() {
  const { t } = useTranslation("help");
  const { t: common } = useTranslation();
  const { isOpen, close } = useShortcutsDialog();
  return (
    <Modal
      opened={isOpen}
      onClose={close}
      size="xl"
      title={t("shortcuts.title")}
      closeButtonProps={{ "aria-label": common("action.close") }}
      styles={{ title: { fontFamily: "var(--mantine-font-family-headings)", fontSize: 22 } }}
    >
      <ShortcutsTable order={3} />
    </Modal>
  );
}
