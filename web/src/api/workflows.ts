/** ComfyUI's workflows: what one would come to, and running it. */

import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { answer, api, type Schemas } from "./client";
import { announce, once } from "./jobs";

export type Explained = Schemas["WorkflowView"];
export type Missing = Schemas["WorkflowMissingView"];
export type Remark = Schemas["WorkflowRemarkView"];
export type Changes = Required<Pick<Schemas["WorkflowBody"], "set" | "models" | "references">>;

/** A workflow as the text that it came as: its seeds may be larger than numbers are exact here. */
export type WorkflowText = { id: string; json: string };

export const UNCHANGED: Changes = { set: {}, models: {}, references: {} };

/** Goes around the parser: what is sent is the file's own text. */
const written = (json: string, changes: Changes) => `{"workflow":${json},${JSON.stringify(changes).slice(1)}`;

const sent = (workflow: WorkflowText, changes: Changes) => ({
  body: { workflow: {}, ...changes },
  bodySerializer: () => written(workflow.json, changes),
});

/** What a workflow would come to with these changes. */
export const explanation = (workflow: WorkflowText, changes: Changes) =>
  queryOptions({
    queryKey: ["workflow", workflow.id, changes] as const,
    queryFn: ({ signal }) =>
      answer(api.POST("/api/workflows/explain", { ...sent(workflow, changes), signal })),
    retry: false,
    gcTime: 60_000,
  });

export function useRunWorkflow(workflow: WorkflowText) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (changes: Changes) =>
      answer(api.POST("/api/workflows/run", { ...sent(workflow, changes), params: { header: once() } })),
    onSuccess: (job) => announce(client, job),
  });
}
