/** How answers of the server are kept: events keep them fresh, so that they are seldom fetched anew. */

import { QueryClient } from "@tanstack/react-query";
import { ApiError } from "@/api/client";

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      retry: (failures, error) => failures < 2 && !(error instanceof ApiError && !error.retryable),
    },
    mutations: { retry: false },
  },
});
