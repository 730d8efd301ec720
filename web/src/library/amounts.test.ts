import { describe, expect, test } from "vitest";
import { ago, bytes } from "./amounts";

describe("bytes", () => {
  test.each([
    [0, "0 byte"],
    [999, "999 byte"],
    [12_238_950, "12.2 MB"],
    [24_000_000_000, "24 GB"],
    [780e12, "780 TB"],
  ])("%d is %s", (count, text) => expect(bytes(count, "en")).toBe(text));
});

describe("ago", () => {
  test.each([
    [1000, "now"],
    [1030, "30 seconds ago"],
    [1000 + 59 * 60, "59 minutes ago"],
    [1000 + 3 * 3600 + 5, "3 hours ago"],
    [1000 + 40 * 86_400, "40 days ago"],
  ])("at %d", (now, text) => expect(ago(1000, now, "en")).toBe(text));

  test("a clock that runs behind does not look into the future", () =>
    expect(ago(1000, 990, "en")).toBe("now"));
});
