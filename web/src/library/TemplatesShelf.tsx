/** Saved requests, and a way to save what the form says now. */

import { IconBookmark } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { templates } from "@/api/catalog";
import { Empty } from "@/parts/Empty";
import { ErrorNotice } from "@/parts/ErrorNotice";
import classes from "./library.module.css";
import { SaveTemplate } from "./SaveTemplate";
import { TemplateCard } from "./TemplateCard";
import { Waiting } from "./Waiting";

export function TemplatesShelf() {
  const { t } = useTranslation("library");
  const { data, error, refetch } = useQuery(templates);
  if (data === undefined)
    return error ? <ErrorNotice error={error} onRetry={() => void refetch()} /> : <Waiting />;
  return (
    <>
      <SaveTemplate />
      {data.length === 0 ? (
        <Empty
          icon={<IconBookmark size={36} stroke={1.3} />}
          title={t("templates.none")}
          hint={t("templates.noneHint")}
        />
      ) : (
        <ul className={classes.grid}>
          {data.map((template) => (
            <li key={template.id}>
              <TemplateCard template={template} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
