/** What there is to choose from now, and what the form means with it: one hook for every field. */

import { type QueryClient, useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import * as catalog from "@/api/catalog";
import { type Catalog, choicesOf } from "./choices";
import { useForm } from "./form";

export function useChoices() {
  const form = useForm((state) => state.form);
  const backends = useQuery(catalog.backends).data;
  const models = useQuery(catalog.models).data;
  const presets = useQuery(catalog.presets).data;
  return useMemo(() => choicesOf(form, { backends, models, presets }), [form, backends, models, presets]);
}

/** The same, for whoever needs it once; what the server does not tell stays unknown. */
export async function knownCatalog(client: QueryClient): Promise<Catalog> {
  const quiet = () => undefined;
  const [backends, models, presets] = await Promise.all([
    client.ensureQueryData(catalog.backends).catch(quiet),
    client.ensureQueryData(catalog.models).catch(quiet),
    client.ensureQueryData(catalog.presets).catch(quiet),
  ]);
  return { backends, models, presets };
}
