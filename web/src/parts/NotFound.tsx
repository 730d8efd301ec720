import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import { Empty } from "./Empty";

/** An address without a page. */
export function NotFound() {
  const { t } = useTranslation();
  return (
    <Empty title={t("error.notFound")} hint={t("error.notFoundHint")}>
      <Button component={Link} to="/">
        {t("error.home")}
      </Button>
    </Empty>
  );
}
