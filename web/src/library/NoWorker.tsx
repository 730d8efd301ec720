/** Nothing can be painted, because no worker is alive: says how to start one. */

import { Code, Group, Text } from "@mantine/core";
import { IconMoonStars } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { Empty } from "@/parts/Empty";
import { CopyIcon } from "./CopyIcon";

const COMMAND = "limner worker";

export function NoWorker() {
  const { t } = useTranslation("library");
  const { t: common } = useTranslation();
  return (
    <Empty
      icon={<IconMoonStars size={36} stroke={1.3} />}
      title={t("noWorker.title")}
      hint={t("noWorker.hint")}
    >
      <Group gap={6} mt="xs">
        <Code fz="md" px="sm" py={6}>
          {COMMAND}
        </Code>
        <CopyIcon text={COMMAND} label={common("action.copy")} />
      </Group>
      <Text size="sm" c="dimmed">
        {t("noWorker.slow")}
      </Text>
    </Empty>
  );
}
