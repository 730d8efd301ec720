import { ActionIcon, FileButton, Menu, Tooltip } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconBookmark, IconBookmarkPlus, IconRestore, IconSitemap } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import * as catalog from "@/api/catalog";
import { useForm } from "./form";
import { SaveTemplate } from "./SaveTemplate";
import { ACCEPTED, useWorkflow } from "./workflow/opened";

/** Templates to choose from, saving the form as one, back to the beginning, and workflows of ComfyUI's. */
export function FormMenu() {
  const { t } = useTranslation(["create", "workflow", "common"]);
  const [isSaving, setSaving] = useState(false);
  const { data: templates } = useQuery(catalog.templates);
  const forget = useRef<() => void>(null); // so that the same file can be chosen again
  const { load, reset, set } = useForm.getState();
  const use = (template: catalog.Template) => {
    const before = useForm.getState().form;
    load(template.request);
    notifications.show({ message: t("template.used", { name: template.name }), onClick: () => set(before) });
  };
  return (
    <>
      <FileButton
        accept={ACCEPTED}
        resetRef={forget}
        onChange={(file) => {
          if (file) useWorkflow.getState().open(file);
          forget.current?.();
        }}
      >
        {({ onClick: choose }) => (
          <Menu position="bottom-end" width={260} shadow="md" radius="lg">
            <Menu.Target>
              <Tooltip label={t("template.menu")}>
                <ActionIcon size="lg" aria-label={t("template.menu")}>
                  <IconBookmark size={20} stroke={1.6} />
                </ActionIcon>
              </Tooltip>
            </Menu.Target>
            <Menu.Dropdown mah={420} style={{ overflowY: "auto" }}>
              <Menu.Label fz={13}>{templates?.length ? t("template.choose") : t("template.none")}</Menu.Label>
              {templates?.map((template) => (
                <Menu.Item key={template.id} onClick={() => use(template)}>
                  {template.name}
                </Menu.Item>
              ))}
              <Menu.Divider />
              <Menu.Item
                leftSection={<IconBookmarkPlus size={18} stroke={1.6} />}
                onClick={() => setSaving(true)}
              >
                {t("template.save")}
              </Menu.Item>
              <Menu.Item leftSection={<IconRestore size={18} stroke={1.6} />} onClick={reset}>
                {t("template.reset")}
              </Menu.Item>
              <Menu.Divider />
              <Menu.Item leftSection={<IconSitemap size={18} stroke={1.6} />} onClick={choose}>
                {t("workflow:open")}
              </Menu.Item>
            </Menu.Dropdown>
          </Menu>
        )}
      </FileButton>
      <SaveTemplate isOpen={isSaving} onClose={() => setSaving(false)} />
    </>
  );
}
