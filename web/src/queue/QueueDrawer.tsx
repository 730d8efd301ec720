/** The queue over whatever page is open. */

import { Button, Drawer } from "@mantine/core";
import { IconArrowsMaximize } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import { useQueueDrawer } from "./drawer";
import { QueueList } from "./QueueList";
import { useEndNotices } from "./useEndNotices";

export function QueueDrawer() {
  const { t } = useTranslation("queue");
  const { t: common } = useTranslation();
  const { isOpen, close } = useQueueDrawer();
  useEndNotices();
  return (
    <Drawer
      opened={isOpen}
      onClose={close}
      position="right"
      size="min(560px, 100vw)"
      title={t("title")}
      closeButtonProps={{ "aria-label": common("action.close"), size: 40 }}
      styles={{
        content: { background: "var(--page)" },
        header: { background: "var(--page)" },
        title: { fontFamily: "var(--mantine-font-family-headings)", fontSize: 24, fontWeight: 480 },
      }}
    >
      <QueueList onLeave={close} />
      <Button
        component={Link}
        to="/queue"
        onClick={close}
        variant="subtle"
        mt="lg"
        leftSection={<IconArrowsMaximize size={17} stroke={1.6} />}
      >
        {t("line.whole")}
      </Button>
    </Drawer>
  );
}
