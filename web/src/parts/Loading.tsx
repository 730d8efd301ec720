import { Center, Loader } from "@mantine/core";
import { useTranslation } from "react-i18next";

/** Something is on its way. */
export function Loading() {
  const { t } = useTranslation();
  return (
    <Center h="100%" mih={160} role="status" aria-label={t("loading")}>
      <Loader type="dots" />
    </Center>
  );
}
