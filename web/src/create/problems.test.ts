import { expect, test } from "vitest";
import { ApiError } from "@/api/client";
import { about, fieldErrors } from "./problems";

const invalid = (details: Record<string, unknown>, status = 422) =>
  new ApiError({ code: "invalid_request", detail: "No.", details }, status);

test("a problem tells each field what is wrong with it", () => {
  const errors = fieldErrors(
    invalid({ fields: { seed: "Too large.", "stages.0.width": "Give a multiple of 16." } }),
  );
  expect(about(errors, "seed")).toBe("Too large.");
  expect(about(errors, "stages")).toBe("Give a multiple of 16.");
  expect(about(errors, "stage")).toBeUndefined();
});

test("an error that names a field in its details belongs to that field", () => {
  expect(fieldErrors(invalid({ aspect_ratio: "100:1" }))).toEqual({ aspect_ratio: "No." });
});

test("failures of the server or of the line belong to no field", () => {
  expect(fieldErrors(invalid({ fields: { seed: "?" } }, 500))).toEqual({});
  expect(fieldErrors(new TypeError("x"))).toEqual({});
});
