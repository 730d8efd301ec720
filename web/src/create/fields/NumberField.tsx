import { NumberInput, type NumberInputProps } from "@mantine/core";

/** A number that may be left open: empty means that the preset decides, whose number shows as a placeholder. */
export function NumberField({
  value,
  onValue,
  ...rest
}: Omit<NumberInputProps, "value" | "onChange"> & {
  value: number | null | undefined;
  onValue: (value: number | null) => void;
}) {
  return (
    <NumberInput
      {...rest}
      value={value ?? ""}
      allowNegative={false}
      clampBehavior="blur"
      onChange={(next) => {
        if (next === "") onValue(null);
        else if (Number.isFinite(Number(next))) onValue(Number(next));
      }}
    />
  );
}
