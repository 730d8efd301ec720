import { CacheFields } from "./fields/CacheFields";
import { ModelField } from "./fields/ModelField";
import { NegativePrompt } from "./fields/NegativePrompt";
import { OutputFields } from "./fields/OutputFields";
import { RunFields } from "./fields/RunFields";
import { SamplingFields } from "./fields/SamplingFields";
import { SeedField } from "./fields/SeedField";
import { SizeFields } from "./fields/SizeFields";
import { StagesEditor } from "./stages/StagesEditor";

/** What the fold hides; fetched when it is opened. */
export function AdvancedFields() {
  return (
    <>
      <NegativePrompt />
      <SeedField />
      <ModelField />
      <SizeFields />
      <SamplingFields />
      <CacheFields />
      <StagesEditor />
      <OutputFields />
      <RunFields />
    </>
  );
}
