import { Button, Code, Container } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Empty } from "./Empty";
import { isUnfetched, useReloadWhenAnswered } from "./unfetched";

/** A page whose code has failed, or could not be fetched. */
export function Broken({ error }: { error: unknown }) {
  const { t } = useTranslation();
  const isMissing = isUnfetched(error);
  useReloadWhenAnswered(isMissing);
  return (
    <Container size="sm" py="xl">
      <Empty
        title={t(isMissing ? "error.unfetched" : "error.page")}
        hint={t(isMissing ? "error.unfetchedHint" : "error.pageHint")}
      >
        <Button onClick={() => window.location.reload()}>{t("action.reload")}</Button>
        <Code block mt="md" style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
          {error instanceof Error ? error.message : String(error)}
        </Code>
      </Empty>
    </Container>
  );
}
