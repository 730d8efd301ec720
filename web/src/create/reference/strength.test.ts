import { expect, test } from "vitest";
import { EMPTY, type Picked } from "../form";
import { MASKED, masked } from "./strength";

const MASK: Picked = { kind: "upload", id: "upl_1", url: "/api/uploads/upl_1" };

test("a mask brings a high strength where none was chosen", () => {
  expect(masked(EMPTY, MASK)).toEqual({ mask: MASK, denoise: MASKED });
  expect(masked({ ...EMPTY, denoise: 0.5 }, MASK)).toEqual({ mask: MASK });
});

test("the strength that came with a mask goes with it, and a chosen one stays", () => {
  expect(masked({ ...EMPTY, mask: MASK, denoise: MASKED }, null)).toEqual({ mask: null, denoise: null });
  expect(masked({ ...EMPTY, mask: MASK, denoise: 0.5 }, null)).toEqual({ mask: null });
});
