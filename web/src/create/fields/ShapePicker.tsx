import { useTranslation } from "react-i18next";
import { useForm } from "../form";
import { drawn, isShape, ratioOf, SHAPE_WORDS, SHAPES, shapeOf, sizeOfShape } from "../shapes";
import { resized } from "../stages/stages";
import { useChoices } from "../useChoices";
import { useFieldError } from "../usePaint";
import { Field } from "./Field";
import classes from "./fields.module.css";

const BOX = 22;

/** The picture's shape in words. With stages of one's own it brings them all into the shape. */
export function ShapePicker() {
  const { t } = useTranslation("create");
  const { form, preset, size, followsPicture } = useChoices();
  const error = useFieldError("aspectRatio", "aspect_ratio");
  const isTyped = form.size !== null || form.stages !== null;
  const chosen = isTyped ? size && shapeOf(size) : form.aspectRatio;
  const own = preset?.stages?.at(-1);

  const choose = (shape: string | null) => {
    const { set } = useForm.getState();
    if (!form.stages) return set({ aspectRatio: shape, size: null });
    const last = form.stages.at(-1);
    const next = shape === null ? own : last && sizeOfShape(shape, last);
    if (next) set({ stages: resized(form.stages, next) });
  };

  return (
    <Field
      title={t("shape.title")}
      error={error}
      aside={
        <span className="numbers">
          {followsPicture ? t("shape.follows") : size && `${size.width} × ${size.height}`}
          {!isTyped && form.aspectRatio && !isShape(form.aspectRatio) && ` (${form.aspectRatio})`}
        </span>
      }
    >
      <div className={classes.shapes} role="radiogroup" aria-label={t("shape.title")}>
        <Choice
          label={t("shape.auto")}
          ratio={own ? own.width / own.height : 0.78}
          isAuto
          isChosen={chosen === null && !isTyped}
          onChoose={() => choose(null)}
        />
        {SHAPES.map((shape) => (
          <Choice
            key={shape}
            label={t(`shape.${SHAPE_WORDS[shape]}`)}
            title={shape}
            ratio={ratioOf(shape)}
            isChosen={chosen === shape}
            onChoose={() => choose(shape)}
          />
        ))}
      </div>
    </Field>
  );
}

function Choice(props: {
  label: string;
  title?: string;
  ratio: number;
  isChosen: boolean;
  isAuto?: boolean;
  onChoose: () => void;
}) {
  const { width, height } = drawn(props.ratio, BOX);
  return (
    <label className={classes.shape} title={props.title} data-auto={props.isAuto || undefined}>
      <input type="radio" name="shape" checked={props.isChosen} onChange={props.onChoose} />
      <i aria-hidden>
        <b style={{ width, height }} />
      </i>
      {props.label}
    </label>
  );
}
