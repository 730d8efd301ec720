import { useTranslation } from "react-i18next";
import fields from "../fields/fields.module.css";
import { useForm } from "../form";
import { isCut, type Size, sizeLike } from "../shapes";
import { resized } from "../stages/stages";
import { useChoices } from "../useChoices";

/** Says that the reference is cut to another shape, and offers a size that keeps the whole of it. */
export function FitNote({ picture }: { picture: Size }) {
  const { t } = useTranslation("create");
  const { form, size, sides } = useChoices();
  if (!size || !isCut(picture, size)) return null;
  const own = sizeLike(picture, size, sides);
  const use = () =>
    useForm
      .getState()
      .set(form.stages ? { stages: resized(form.stages, own) } : { size: own, aspectRatio: null });
  return (
    <p className={fields.note}>
      {t("reference.cut", size)}{" "}
      <button type="button" className={fields.link} onClick={use}>
        {t("reference.ownSize", own)}
      </button>
    </p>
  );
}
