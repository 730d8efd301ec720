/** What can be asked of one backend. */

import { Title, VisuallyHidden } from "@mantine/core";
import { IconCheck, IconMinus } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Capabilities } from "@/api/catalog";
import sections from "./BackendsShelf.module.css";
import classes from "./library.module.css";

const ABILITIES = ["previews", "adapters", "references", "masks", "negative_prompts", "guidance"] as const;

export function BackendCard({
  name,
  able,
  isDefault,
}: {
  name: string;
  able: Capabilities;
  isDefault: boolean;
}) {
  const { t } = useTranslation("library");
  const { limits } = able;
  const [tone, state] = able.problem
    ? (["bad", t("backends.problem")] as const)
    : able.models.length === 0
      ? (["half", t("backends.noModels")] as const)
      : (["good", t("backends.ready")] as const);
  return (
    <article className={`surface ${classes.card}`} aria-labelledby={`backend-${name}`}>
      <div className={classes.body}>
        <div className={classes.head}>
          <Title order={2} fz={20} className={classes.name} id={`backend-${name}`}>
            {name}
          </Title>
          {isDefault && <span className={classes.note}>{t("backends.default")}</span>}
        </div>
        <div className={classes.state}>
          <span className={classes.dot} data-tone={tone} aria-hidden />
          {state}
        </div>
        {able.problem ? (
          <div className={classes.trouble}>{able.problem}</div>
        ) : (
          <>
            <ul className={sections.abilities}>
              {ABILITIES.map((ability) => (
                <li key={ability} data-able={able[ability]}>
                  {able[ability] ? <IconCheck size={16} aria-hidden /> : <IconMinus size={16} aria-hidden />}
                  {t(`backends.can.${ability}`)}
                  <VisuallyHidden>: {t(able[ability] ? "backends.yes" : "backends.no")}</VisuallyHidden>
                </li>
              ))}
            </ul>
            <p className={`numbers ${classes.foot}`}>
              {t("backends.limits", {
                side: limits.max_side,
                count: limits.max_count,
                stages: limits.max_stages,
                steps: limits.max_steps,
                adapters: limits.max_adapters,
              })}
            </p>
            <div>
              <Names title={t("backends.samplers")} names={able.samplers} />
              <Names title={t("backends.schedules")} names={able.schedules} />
            </div>
          </>
        )}
      </div>
    </article>
  );
}

function Names({ title, names }: { title: string; names: readonly string[] }) {
  if (names.length === 0) return null;
  return (
    <details className={sections.more}>
      <summary>
        {title} ({names.length})
      </summary>
      <p>{names.join(", ")}</p>
    </details>
  );
}
