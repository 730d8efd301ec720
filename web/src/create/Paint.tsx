import { Button, Loader } from "@mantine/core";
import { IconBrush } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { ApiError } from "@/api/client";
import { ErrorNotice } from "@/parts/ErrorNotice";
import classes from "./CreatePage.module.css";
import { useForm } from "./form";
import { useChoices } from "./useChoices";
import { usePainting } from "./usePaint";

const IS_APPLE = typeof navigator !== "undefined" && /Mac|iP(hone|ad)/.test(navigator.userAgent);

/** The one button that matters, what keeps it from working, and what the server said to the last try. */
export function Paint({ hasHints = false }: { hasHints?: boolean }) {
  const { t } = useTranslation("create");
  const { paint, reason, isSending, error, running } = usePainting();
  const count = useForm((state) => state.form.count);
  const hasHistory = useForm((state) => state.history.length > 0);
  const { abilities } = useChoices();
  const isRetryable = !(error instanceof ApiError) || error.retryable;
  return (
    <>
      {error !== null && !isSending && (
        <div className={classes.problem}>
          <ErrorNotice error={error} {...(isRetryable ? { onRetry: paint } : {})} />
        </div>
      )}
      <Button
        className={classes.paint}
        size="lg"
        radius="lg"
        fullWidth
        onClick={paint}
        data-disabled={reason !== "" || undefined}
        aria-disabled={reason !== "" || isSending}
        aria-describedby={reason ? "paint-reason" : undefined}
        leftSection={
          isSending ? (
            <Loader size={18} color="currentColor" />
          ) : (
            <IconBrush size={20} stroke={1.7} aria-hidden />
          )
        }
      >
        {t("paint.button", { count })}
      </Button>
      <p className={classes.reason} id="paint-reason" role="status" hidden={!reason && !abilities.isWaiting}>
        {reason || (abilities.isWaiting ? t("paint.waiting") : "")}
      </p>
      {hasHints && (
        <div className={classes.hints}>
          <span>
            <kbd>{IS_APPLE ? "⌘" : "Ctrl"}</kbd> <kbd>Enter</kbd> {t("paint.hint")}
          </span>
          {running > 0 ? (
            <span>
              <kbd>Shift</kbd> <kbd>X</kbd> {t("paint.cancelHint")}
            </span>
          ) : (
            hasHistory && (
              <span>
                <kbd>Alt</kbd> <kbd>↑</kbd> {t("paint.historyHint")}
              </span>
            )
          )}
        </div>
      )}
    </>
  );
}
