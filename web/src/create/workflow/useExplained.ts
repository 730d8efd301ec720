/** What a workflow comes to: as it is, and with what was chosen for it so far. */

import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type Changes, explanation, UNCHANGED, type WorkflowText } from "@/api/workflows";
import { guess, needs } from "./choosing";

const PAUSE_MS = 300;

export function useExplained(workflow: WorkflowText, changes: Changes) {
  const [settled] = useDebouncedValue(changes, PAUSE_MS);
  const bare = useQuery(explanation(workflow, UNCHANGED));
  const now = useQuery({ ...explanation(workflow, settled), placeholderData: keepPreviousData });
  const told = now.data ?? bare.data;
  const guessed = told?.unsupported.length ? undefined : guess(settled, told?.missing);
  const read = useQuery({
    ...explanation(workflow, guessed ?? UNCHANGED),
    enabled: guessed !== undefined,
    placeholderData: keepPreviousData,
  });
  return {
    /** What it comes to now. */
    told,
    /** The request as the workflow itself says it, but for values that were changed, as soon as that can be read. */
    said: bare.data?.request ?? told?.request ?? read.data?.request,
    missing: needs(bare.data?.missing, told?.missing),
    error: now.error ?? (told ? null : bare.error),
    isPending: now.isPlaceholderData || settled !== changes,
    refetch: () => void Promise.all([now.refetch(), bare.refetch()]),
  };
}
