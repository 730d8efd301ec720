/** What the server says of a workflow: nodes that stand in the way, its stages, and remarks. */

import { Alert } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Explained, Remark } from "@/api/workflows";
import { grouped } from "./choosing";
import classes from "./workflow.module.css";

export function Unsupported({ troubles }: { troubles: Explained["unsupported"] }) {
  const { t } = useTranslation("workflow");
  if (troubles.length === 0) return null;
  return (
    <Alert
      color="red"
      variant="light"
      radius="lg"
      icon={<IconAlertTriangle />}
      title={t("unsupported.title", { count: troubles.length })}
      role="alert"
    >
      <ul className={classes.troubles}>
        {troubles.map(({ node, kind, title, reason }) => (
          <li key={`${node} ${reason}`}>
            <strong>
              {t("unsupported.node", { id: node })} · <code>{kind}</code>
              {title && title !== kind && ` · ${title}`}
            </strong>
            <span>{reason}</span>
          </li>
        ))}
      </ul>
      <p>{t("unsupported.comfyui")}</p>
    </Alert>
  );
}

export function Does({ told }: { told: Explained }) {
  const { t } = useTranslation("workflow");
  const { request, stages } = told;
  if (stages.length === 0) return null;
  const names = [
    request?.model,
    ...(request?.adapters ?? []).map(({ name, weight }) => `${name} × ${weight}`),
  ];
  return (
    <section className={classes.part}>
      <h3>{t("does.title")}</h3>
      {request && (
        <p className={classes.quiet}>{t("does.with", { names: names.filter(Boolean).join(" · ") })}</p>
      )}
      <ol className={classes.stages}>
        {stages.map(({ node, text }, at) => (
          <li key={node}>
            <strong>{t("does.stage", { number: at + 1 })}</strong>
            <span className="numbers">{text}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

export function Remarks({ remarks }: { remarks: readonly Remark[] }) {
  const { t } = useTranslation("workflow");
  return grouped(remarks).map(({ kind, said }) =>
    kind === "ignored" ? (
      <details key={kind} className={classes.part}>
        <summary>{t("remarks.ignored", { count: said.length })}</summary>
        <Said said={said} />
      </details>
    ) : (
      <section key={kind} className={classes.part}>
        <h3>{t(`remarks.${kind}`)}</h3>
        <Said said={said} />
      </section>
    ),
  );
}

function Said({ said }: { said: [string, string[]][] }) {
  const { t } = useTranslation("workflow");
  return (
    <ul className={classes.said}>
      {said.map(([text, nodes]) => (
        <li key={text}>
          <small>{t("remarks.node", { count: nodes.length, ids: nodes.join(", ") })}</small> {text}
        </li>
      ))}
    </ul>
  );
}
