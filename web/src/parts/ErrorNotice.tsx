import { Alert, Button, Code, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { useErrorText } from "./errors";

/** What went wrong, in the server's words, with its code and a way to try again. */
export function ErrorNotice({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const { t } = useTranslation();
  const { text, code } = useErrorText()(error);
  return (
    <Alert
      color="red"
      variant="light"
      radius="lg"
      icon={<IconAlertTriangle />}
      title={t("error.title")}
      role="alert"
    >
      <Text size="sm" style={{ overflowWrap: "anywhere" }}>
        {text}
      </Text>
      {code && <Code mt={6}>{t("error.code", { code })}</Code>}
      {onRetry && (
        <Button mt="sm" size="xs" variant="light" color="red" onClick={onRetry} display="block">
          {t("action.retry")}
        </Button>
      )}
    </Alert>
  );
}
