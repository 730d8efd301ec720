import { NumberInput } from "@mantine/core";
import { type SizeLimits, snapped } from "../shapes";

/** A side in pixels: typed freely, and brought to the next number that can be painted when one leaves it. */
export function SideField(props: {
  label: string;
  value: number | undefined;
  limits: SizeLimits;
  onDone: (side: number) => void;
}) {
  const { value, limits } = props;
  const commit = (text: string) => {
    const typed = Number.parseInt(text, 10);
    if (Number.isFinite(typed) && typed !== value) props.onDone(snapped(typed, limits));
  };
  return (
    <NumberInput
      key={value} // what was typed gives way to what came of it
      label={props.label}
      defaultValue={value}
      step={limits.multiple}
      clampBehavior="none"
      allowDecimal={false}
      allowNegative={false}
      suffix=" px"
      hideControls
      onBlur={(event) => commit(event.currentTarget.value)}
      onKeyDown={(event) => event.key === "Enter" && !event.ctrlKey && commit(event.currentTarget.value)}
    />
  );
}
