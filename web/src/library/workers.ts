/** The workers that are alive. */

import { useQuery } from "@tanstack/react-query";
import { backends, type Worker } from "@/api/catalog";

/** Those of a lane, the newest first; undefined while it is not known. */
export function useWorkers(lane: "native" | "remote"): Worker[] | undefined {
  const { data } = useQuery(backends);
  return data?.workers.filter((worker) => worker.lane === lane);
}
