/** What is needed to tell a job's sizes; answers of the server that the whole page shares. */

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { models, presets } from "@/api/catalog";
import type { Catalog } from "./shape";

export function useCatalog(): Catalog {
  const { data: known } = useQuery(models);
  const { data: plans } = useQuery(presets);
  return useMemo(
    () => ({
      models: known?.models ?? [],
      defaultModel: known?.default ?? "",
      presets: plans?.presets ?? [],
      defaultPreset: plans?.default ?? "",
    }),
    [known, plans],
  );
}
