import { Modal, Skeleton, Stack, TextInput, UnstyledButton } from "@mantine/core";
import { IconCheck, IconSearch } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { type Adapter, adapters } from "@/api/catalog";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { useForm } from "../form";
import { useChoices } from "../useChoices";
import { chosen, dropped } from "./choosing";
import classes from "./loras.module.css";

/** All LoRAs with what they fit; those that do not fit the model stay in sight and say why. */
export function LoraPicker({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  const { t } = useTranslation(["create", "common"]);
  const { abilities, form } = useChoices();
  const [search, setSearch] = useState("");
  const query = useQuery({
    ...adapters(abilities.backend === "native" ? (abilities.model ?? null) : null),
    enabled: isOpen,
  });
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = query.data?.filter(({ name, trigger }) =>
    words.every((word) => `${name} ${trigger}`.toLowerCase().includes(word)),
  );
  const toggle = (adapter: Adapter) => {
    const { form: now, set } = useForm.getState();
    const has = now.adapters.some(({ name }) => name === adapter.name);
    set(has ? dropped(now, adapter.name, adapter.trigger) : chosen(now, adapter));
  };
  return (
    <Modal
      opened={isOpen}
      onClose={onClose}
      title={t("lora.choose")}
      radius="lg"
      closeButtonProps={{ "aria-label": t("common:action.close") }}
    >
      <Stack>
        <TextInput
          data-autofocus
          aria-label={t("common:action.search")}
          placeholder={t("lora.search")}
          leftSection={<IconSearch size={17} stroke={1.6} aria-hidden />}
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
        />
        {query.error && <ErrorNotice error={query.error} onRetry={() => void query.refetch()} />}
        {query.isPending && <Skeleton h={56} radius="md" />}
        <ul className={classes.list}>
          {found?.map((adapter) => (
            <Row
              key={adapter.name}
              adapter={adapter}
              isChosen={form.adapters.some(({ name }) => name === adapter.name)}
              onToggle={() => toggle(adapter)}
            />
          ))}
        </ul>
        {found?.length === 0 && (
          <p className={classes.empty}>{query.data?.length ? t("lora.noneFound") : t("lora.none")}</p>
        )}
      </Stack>
    </Modal>
  );
}

function Row({ adapter, isChosen, onToggle }: { adapter: Adapter; isChosen: boolean; onToggle: () => void }) {
  const { t } = useTranslation("create");
  const { name, trigger, fit } = adapter;
  const isUnfit = fit?.status === "skipped";
  const isDisabled = isUnfit && !isChosen;
  return (
    <li>
      <UnstyledButton
        className={classes.row}
        aria-pressed={isChosen}
        aria-disabled={isDisabled}
        onClick={() => !isDisabled && onToggle()}
      >
        <span className={classes.about}>
          <span className={classes.title}>{name}</span>
          {trigger && <small>{t("lora.trigger", { trigger })}</small>}
          {fit && fit.status !== "applied" && <small className={classes.reason}>{fit.reason}</small>}
          {fit?.status === "partial" && (
            <small>{t("lora.partial", { matched: fit.matched, total: fit.total })}</small>
          )}
        </span>
        {isChosen && <IconCheck size={18} stroke={2} className={classes.check} aria-hidden />}
      </UnstyledButton>
    </li>
  );
}
