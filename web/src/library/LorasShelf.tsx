/** LoRA files, with a search over names and trigger words. */

import { Button, CloseButton, TextInput } from "@mantine/core";
import { IconFeather, IconSearch } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { adapters } from "@/api/catalog";
import { Empty } from "@/parts/Empty";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { LoraCard } from "./LoraCard";
import classes from "./library.module.css";
import { Waiting } from "./Waiting";
import { Where } from "./Where";

export function LorasShelf() {
  const { t } = useTranslation("library");
  const [text, setText] = useState("");
  const { data, error, refetch } = useQuery(adapters(null));
  if (data === undefined)
    return error ? <ErrorNotice error={error} onRetry={() => void refetch()} /> : <Waiting height={330} />;
  if (data.length === 0)
    return (
      <>
        <Empty icon={<IconFeather size={36} stroke={1.3} />} title={t("loras.none")} />
        <Where shelf="loras" />
      </>
    );
  const wanted = text.trim().toLowerCase();
  const found = data.filter(({ name, trigger }) => `${name}\n${trigger}`.toLowerCase().includes(wanted));
  return (
    <>
      <TextInput
        type="search"
        size="md"
        maw={420}
        aria-label={t("loras.search")}
        placeholder={t("loras.searchHint")}
        leftSection={<IconSearch size={17} aria-hidden />}
        rightSection={text && <CloseButton onClick={() => setText("")} aria-label={t("loras.clear")} />}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
      />
      {found.length === 0 ? (
        <Empty title={t("loras.noMatch", { text: text.trim() })}>
          <Button variant="default" onClick={() => setText("")}>
            {t("loras.clear")}
          </Button>
        </Empty>
      ) : (
        <ul className={classes.grid}>
          {found.map((adapter) => (
            <li key={adapter.name}>
              <LoraCard adapter={adapter} />
            </li>
          ))}
        </ul>
      )}
      <Where shelf="loras" />
    </>
  );
}
