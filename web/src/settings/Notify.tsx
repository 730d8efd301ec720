/** Whether to be told of finished jobs; asks the browser for the permission. */

import { Switch } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { usePermission } from "./permission";
import { usePreferences } from "./preferences";
import { Row } from "./Row";

export function Notify() {
  const { t } = useTranslation("settings");
  const { notify, setNotify } = usePreferences();
  const { now, ask } = usePermission();
  const isPossible = now === "default" || now === "granted";
  const change = async (wanted: boolean) => setNotify(wanted && (await ask()) === "granted");
  return (
    <Row id="notify" label={t("notify.label")} hint={t(`notify.${isPossible ? "hint" : now}`)}>
      <Switch
        size="md"
        aria-labelledby="notify"
        checked={notify && now === "granted"}
        disabled={!isPossible}
        onChange={(event) => void change(event.currentTarget.checked)}
      />
    </Row>
  );
}
