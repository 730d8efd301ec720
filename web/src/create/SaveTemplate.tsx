import { Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useAddTemplate } from "@/api/catalog";
import { ErrorNotice } from "@/parts/ErrorNotice";
import { savable } from "./form";
import { useChoices } from "./useChoices";

/** Asks for the name under which the form is saved. The seed is saved only when it is fixed. */
export function SaveTemplate({ isOpen, onClose }: { isOpen: boolean; onClose: () => void }) {
  const { t } = useTranslation(["create", "common"]);
  const [name, setName] = useState("");
  const add = useAddTemplate();
  const { fitting } = useChoices();
  const close = () => {
    add.reset();
    setName("");
    onClose();
  };
  const save = () => {
    add.mutate(
      { name: name.trim(), request: savable(fitting) },
      {
        onSuccess: () => {
          notifications.show({ message: t("template.saved", { name: name.trim() }) });
          close();
        },
      },
    );
  };
  return (
    <Modal
      opened={isOpen}
      onClose={close}
      title={t("template.save")}
      radius="lg"
      closeButtonProps={{ "aria-label": t("common:action.close") }}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (name.trim()) save();
        }}
      >
        <Stack>
          <TextInput
            data-autofocus
            label={t("template.name")}
            value={name}
            maxLength={200}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <Text size="sm" c="dimmed">
            {t("template.what")}
          </Text>
          {add.error && <ErrorNotice error={add.error} />}
          <Group justify="end">
            <Button variant="default" onClick={close}>
              {t("common:action.cancel")}
            </Button>
            <Button type="submit" disabled={!name.trim()} loading={add.isPending}>
              {t("common:action.save")}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
