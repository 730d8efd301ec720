/** What there is to choose from: models, LoRAs, backends, presets, templates. */

import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { answer, api, type Schemas } from "./client";

export type Model = Schemas["ModelView"];
export type Adapter = Schemas["AdapterView"];
export type Preset = Schemas["PresetView"];
export type Stage = Schemas["Stage"];
export type Template = Schemas["TemplateView"];
export type Backends = Schemas["BackendView"];
export type Worker = Schemas["WorkerView"];
export type Capabilities = Schemas["CapabilitiesView"];
export type AdapterFit = Schemas["AdapterFit"];

export const catalogKeys = {
  models: ["models"] as const,
  adapters: (model: string | null) => ["adapters", model] as const,
  backends: ["backends"] as const,
  presets: ["presets"] as const,
  templates: ["templates"] as const,
};

export const models = queryOptions({
  queryKey: catalogKeys.models,
  queryFn: ({ signal }) => answer(api.GET("/api/models", { signal })),
  // A worker that has just started needs a while to look around, and one that loads a checkpoint to read it.
  refetchInterval: (query) => {
    const known = query.state.data?.models;
    return !known?.length || known.some((model) => model.loading || model.unloading) ? 1_500 : 15_000;
  },
});

export const adapters = (model: string | null) =>
  queryOptions({
    queryKey: catalogKeys.adapters(model),
    queryFn: async ({ signal }) => {
      const query = model === null ? {} : { model };
      return (await answer(api.GET("/api/adapters", { params: { query }, signal }))).adapters;
    },
  });

export const backends = queryOptions({
  queryKey: catalogKeys.backends,
  queryFn: ({ signal }) => answer(api.GET("/api/backends", { signal })),
  refetchInterval: 10_000,
});

export const presets = queryOptions({
  queryKey: catalogKeys.presets,
  queryFn: ({ signal }) => answer(api.GET("/api/presets", { signal })),
  staleTime: 60_000,
});

export const templates = queryOptions({
  queryKey: catalogKeys.templates,
  queryFn: async ({ signal }) => (await answer(api.GET("/api/templates", { signal }))).templates,
});

export const health = queryOptions({
  queryKey: ["health"],
  queryFn: ({ signal }) => answer(api.GET("/health", { signal })),
  staleTime: 60_000,
});

/** Asks the workers to take a checkpoint into memory or out of it; they do so after the answer. */
export function useHoldModel(wanted: "load" | "unload") {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (name: string) =>
      answer(api.POST(`/api/models/{name}/${wanted}`, { params: { path: { name } } })),
    onSettled: () => client.invalidateQueries({ queryKey: catalogKeys.models }),
  });
}

export function useAddTemplate() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: { name: string; request: Partial<Schemas["GenerationRequest"]> }) =>
      answer(api.POST("/api/templates", { body: body as Schemas["TemplateBody"] })),
    onSuccess: () => client.invalidateQueries({ queryKey: catalogKeys.templates }),
  });
}

export function useDeleteTemplate() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) =>
      answer(api.DELETE("/api/templates/{template_id}", { params: { path: { template_id: id } } })),
    onSettled: () => client.invalidateQueries({ queryKey: catalogKeys.templates }),
  });
}
