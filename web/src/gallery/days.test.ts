import { expect, it } from "vitest";
import { beginOf, dayFinder, dayOf, daysAgo, dayTitle } from "./days";

const WORDS = { today: "Today", yesterday: "Yesterday" };
const noon = beginOf("2026-03-29") + 12 * 3600; // the day on which European clocks lose an hour
const title = (day: string, language = "en-GB") => dayTitle(day, language, WORDS, noon);

it("a day holds its moments from midnight to midnight", () => {
  expect(dayOf(beginOf("2026-11-26"))).toBe("2026-11-26");
  expect(dayOf(beginOf("2026-11-26", 1) - 1)).toBe("2026-11-26");
  expect(beginOf("2026-12-31", 1)).toBe(beginOf("2027-01-01"));
});

it("days found in a row are the same days", () => {
  const find = dayFinder();
  for (let at = noon - 3 * 86_400; at < noon + 3 * 86_400; at += 1800) expect(find(at)).toBe(dayOf(at));
  expect(find(noon)).toBe("2026-03-29");
});

it("today and yesterday have names, other days a date", () => {
  expect(title("2026-03-29")).toBe("Today");
  expect(title("2026-03-28")).toBe("Yesterday");
  expect(title("2026-03-27")).toBe("Friday 27 March");
  expect(title("2025-12-31")).toBe("Wednesday, 31 December 2025");
  expect(title("2026-03-27", "zh")).toBe("3月27日星期五");
});

it("days are counted by the calendar, not by hours", () => {
  expect(daysAgo(1, beginOf("2026-03-30") + 60)).toBe("2026-03-29");
  expect(daysAgo(29, noon)).toBe("2026-02-28");
});
