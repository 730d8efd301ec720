import { useTranslation } from "react-i18next";

/** What a family of checkpoints is called on the page. */
export function useFamily(): (family: string) => string {
  const { t } = useTranslation();
  const titles: Record<string, string> = t("family", { returnObjects: true });
  return (family) => titles[family] ?? family;
}
