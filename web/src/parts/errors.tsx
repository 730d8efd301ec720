/** Errors as texts and as notifications. */

import { notifications } from "@mantine/notifications";
import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "@/api/client";

/** Turns whatever was thrown into what to tell, and the server's code where it has one. */
export function useErrorText(): (error: unknown) => { text: string; code: string } {
  const { t } = useTranslation();
  return useCallback(
    (error) => {
      if (!(error instanceof ApiError)) return { text: String(error), code: "" };
      if (error.code === "unreachable") return { text: t("error.unreachable"), code: error.code };
      return { text: error.message, code: error.code };
    },
    [t],
  );
}

/** Tells an error in the corner of the page; for what was done with a button. */
export function useTellError(): (error: unknown) => void {
  const { t } = useTranslation();
  const words = useErrorText();
  return useCallback(
    (error) => {
      const { text, code } = words(error);
      notifications.show({
        color: "red",
        title: t("error.title"),
        message: code ? `${text} (${code})` : text,
        autoClose: 12_000,
        role: "alert",
      });
    },
    [t, words],
  );
}
