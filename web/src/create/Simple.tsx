import { CountField } from "./fields/CountField";
import { PresetPicker } from "./fields/PresetPicker";
import { ShapePicker } from "./fields/ShapePicker";
import { LoraField } from "./loras/LoraField";
import { ReferenceField } from "./reference/ReferenceField";

/** What most pictures need: how, in which shape, how many, in whose style, from which picture. */
export function Simple() {
  return (
    <>
      <PresetPicker />
      <ShapePicker />
      <CountField />
      <LoraField />
      <ReferenceField />
    </>
  );
}
