/** Calls the server with types made from its OpenAPI document, and turns its problems into errors. */

import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Problem = Schemas["Problem"];

/** What the server refused, or that it could not be reached (`code` is then `unreachable`). */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;
  readonly retryable: boolean;
  readonly details: Record<string, unknown>;

  constructor(problem: Partial<Problem>, status: number) {
    super(problem.detail || problem.title || `The server answered with status ${status}.`);
    this.name = "ApiError";
    this.code = problem.code ?? "unknown";
    this.status = status;
    this.retryable = problem.retryable ?? false;
    this.details = problem.details ?? {};
  }
}

const reached: typeof fetch = async (input, init) => {
  try {
    return await fetch(input, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError({ code: "unreachable", detail: "The server does not answer.", retryable: true }, 0);
  }
};

export const api = createClient<paths>({ baseUrl: globalThis.location?.origin ?? "", fetch: reached });

/** The answer of a call of `api`, or its problem thrown as an `ApiError`. */
export async function answer<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  const { data, error, response } = await call;
  if (error !== undefined || !response.ok) throw new ApiError(isProblem(error) ? error : {}, response.status);
  return data as T;
}

function isProblem(error: unknown): error is Partial<Problem> {
  return typeof error === "object" && error !== null && "title" in error;
}
