/** One LoRA: what calls it, which checkpoints it fits, and a button that puts it into the form. */

import { Button, Title } from "@mantine/core";
import { IconCheck, IconFeather, IconPlus } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";
import type { Adapter } from "@/api/catalog";
import { useForm } from "@/create/form";
import { CopyIcon } from "./CopyIcon";
import { Fits } from "./Fits";
import classes from "./library.module.css";
import { Recent } from "./Recent";

export function LoraCard({ adapter }: { adapter: Adapter }) {
  const { t } = useTranslation("library");
  const { name, trigger, fits } = adapter;
  const { form, set } = useForm();
  const isChosen = form.adapters.some((chosen) => chosen.name === name);
  const add = () => {
    if (!isChosen) set({ adapters: [...form.adapters, { name, trigger, weight: 1 }] });
  };
  return (
    <article className={`surface ${classes.card}`} aria-labelledby={`lora-${name}`}>
      <Recent by="adapter" name={name} instead={<IconFeather size={40} stroke={1.1} />} />
      <div className={classes.body}>
        <Title order={2} fz={20} className={classes.name} id={`lora-${name}`}>
          {name}
        </Title>
        <div className={classes.facts}>
          {trigger ? (
            <span className={classes.state} style={{ gap: 4 }}>
              {t("loras.trigger")} <span className={classes.mono}>{trigger}</span>
              <CopyIcon text={trigger} label={t("copyTrigger")} />
            </span>
          ) : (
            t("loras.noTrigger")
          )}
        </div>
        <Fits fits={fits} />
        <div className={classes.actions}>
          <Button
            component={Link}
            to="/"
            variant={isChosen ? "light" : "filled"}
            leftSection={isChosen ? <IconCheck size={17} /> : <IconPlus size={17} />}
            onClick={add}
            aria-label={`${t(isChosen ? "loras.inUse" : "loras.use")}: ${name}`}
          >
            {t(isChosen ? "loras.inUse" : "loras.use")}
          </Button>
        </div>
      </div>
    </article>
  );
}
