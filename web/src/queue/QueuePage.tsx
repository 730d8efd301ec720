/** The queue as a page of its own. */

import { Container, Title } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { QueueList } from "./QueueList";

export function QueuePage() {
  const { t } = useTranslation("queue");
  return (
    <Container size={860} py="xl" px={{ base: "md", sm: "xl" }}>
      <Title order={1} mb="lg">
        {t("title")}
      </Title>
      <QueueList />
    </Container>
  );
}
