/** Tells that a job of this tab has ended, where that is not seen: on another page, or while the tab is hidden. */

import { Anchor } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useRouter } from "@tanstack/react-router";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import { onEnd } from "@/live/ended";
import { notifyOutside } from "@/settings/permission";
import { usePreferences } from "@/settings/preferences";
import { useQueueDrawer } from "./drawer";
import { useUnseen } from "./unseen";

export function useEndNotices(): void {
  const { t } = useTranslation("queue");
  const router = useRouter();

  useEffect(
    () =>
      onEnd((end) => {
        if (document.hidden) {
          useUnseen.setState({ isUnseen: true });
          if (end.status !== "cancelled" && usePreferences.getState().notify)
            notifyOutside(t(`ended.${end.status}`), end.job_id, () => void router.navigate({ to: "/" }));
        }
        const isSeen = router.state.location.pathname === "/" || useQueueDrawer.getState().isOpen;
        if (isSeen || end.status === "cancelled") return;
        const isGood = end.status !== "failed";
        notifications.show({
          id: end.job_id,
          color: isGood ? "minium" : "red",
          title: t(`ended.${end.status}`),
          message: (
            <Anchor
              component="button"
              size="sm"
              onClick={() => {
                notifications.hide(end.job_id);
                void router.navigate({ to: "/" });
              }}
            >
              {t(isGood ? "ended.look" : "ended.why")}
            </Anchor>
          ),
          autoClose: isGood ? 8_000 : 15_000,
        });
      }),
    [router, t],
  );

  useEffect(() => {
    const onVisible = () => {
      if (!document.hidden) useUnseen.setState({ isUnseen: false });
    };
    document.addEventListener("visibilitychange", onVisible);
    return () => document.removeEventListener("visibilitychange", onVisible);
  }, []);
}
