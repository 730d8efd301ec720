import { ActionIcon, Tooltip } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { type Picked, useForm } from "../form";
import { useChoices } from "../useChoices";
import classes from "./reference.module.css";
import { removed } from "./references";

/** The pictures that the model looks at, in their order; those that it has no room for are pale. */
export function ReferenceList() {
  const { form, room } = useChoices();
  return (
    <ol className={classes.looked}>
      {form.references.map((picture, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a picture may be there twice
        <li key={`${picture.id} ${at}`}>
          <Looked picture={picture} at={at} isLeft={at >= room} />
        </li>
      ))}
    </ol>
  );
}

function Looked({ picture, at, isLeft }: { picture: Picked; at: number; isLeft: boolean }) {
  const { t } = useTranslation("create");
  const [isBroken, setBroken] = useState(false);
  const number = at + 1;
  const label = t("reference.removeOne", { number });
  return (
    <>
      {isBroken ? (
        <span className={classes.broken}>{t("reference.broken")}</span>
      ) : (
        <img
          className={isLeft ? classes.left : undefined}
          src={picture.url}
          alt={t("reference.altOne", { number })}
          onError={() => setBroken(true)}
        />
      )}
      <Tooltip label={label}>
        <ActionIcon
          size={26}
          variant="default"
          className={classes.away}
          aria-label={label}
          onClick={() => {
            const { form, set } = useForm.getState();
            set(removed(form, at));
          }}
        >
          <IconX size={15} stroke={1.8} />
        </ActionIcon>
      </Tooltip>
    </>
  );
}
