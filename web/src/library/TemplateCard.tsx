/** One saved request. */

import { ActionIcon, Button, Group, Modal, Text, Title, Tooltip } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconBrush, IconTrash } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import { type Template, useDeleteTemplate } from "@/api/catalog";
import { useForm } from "@/create/form";
import { useTellError } from "@/parts/errors";
import classes from "./library.module.css";
import { facts } from "./templates";

export function TemplateCard({ template }: { template: Template }) {
  const { t } = useTranslation("library");
  const { t: common } = useTranslation();
  const load = useForm((store) => store.load);
  const tell = useTellError();
  const [isAsking, { open, close }] = useDisclosure();
  const { mutate, isPending } = useDeleteTemplate();
  const { id, name, request } = template;
  const remove = t("templates.remove", { name });
  return (
    <article className={`surface ${classes.card}`} aria-labelledby={id}>
      <div className={classes.body}>
        <Title order={2} fz={20} className={classes.name} id={id}>
          {name}
        </Title>
        <Text lineClamp={4} style={{ overflowWrap: "anywhere" }}>
          {request.prompt || common("untitled")}
        </Text>
        <div className={`numbers ${classes.facts}`}>{facts(t, request).join(" · ")}</div>
        <div className={classes.actions} style={{ justifyContent: "space-between" }}>
          <Button
            component={Link}
            to="/"
            leftSection={<IconBrush size={17} />}
            onClick={() => load(request)}
            aria-label={`${t("templates.apply")}: ${name}`}
          >
            {t("templates.apply")}
          </Button>
          <Tooltip label={remove}>
            <ActionIcon size={40} onClick={open} aria-label={remove}>
              <IconTrash size={18} />
            </ActionIcon>
          </Tooltip>
        </div>
      </div>
      <Modal
        opened={isAsking}
        onClose={close}
        title={t("templates.removeTitle", { name })}
        closeButtonProps={{ "aria-label": common("action.close") }}
      >
        <Text c="dimmed">{t("templates.removeHint")}</Text>
        <Group justify="flex-end" mt="lg">
          <Button variant="default" onClick={close} data-autofocus>
            {common("action.cancel")}
          </Button>
          <Button
            color="red"
            loading={isPending}
            onClick={() => mutate(id, { onError: tell, onSuccess: close })}
          >
            {common("action.delete")}
          </Button>
        </Group>
      </Modal>
    </article>
  );
}
