import i18next from "i18next";
import { beforeAll, expect, test } from "vitest";
import { en } from "@/i18n/en";
import { zh } from "@/i18n/zh";
import { fitText } from "./fitText";

const judged = (status: "applied" | "partial" | "skipped") => ({
  status,
  matched: 12,
  total: 35,
  reason: "",
});

beforeAll(() => i18next.init({ resources: { en, zh }, lng: "en", ns: ["library"] }));

test("in full, in part, and not at all", () => {
  const t = i18next.getFixedT("en", "library");
  expect(fitText(t, judged("applied"))).toBe("Fits");
  expect(fitText(t, judged("partial"))).toBe("Fits in part: 12 of 35");
  expect(fitText(t, judged("skipped"))).toBe("Does not fit");
});

test("in Chinese", () =>
  expect(fitText(i18next.getFixedT("zh", "library"), judged("partial"))).toBe("部分适用：35 项中的 12 项"));
