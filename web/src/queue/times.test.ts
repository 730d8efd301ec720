import i18next from "i18next";
import { beforeAll, expect, test } from "vitest";
import { en } from "@/i18n/en";
import { aJob } from "@/testing";
import { duration, progressOf, rough, shareOf, tookOf } from "./times";

beforeAll(() => i18next.init({ resources: { en }, lng: "en", defaultNS: "common" }));

test.each([
  [0.04, "0 s"],
  [3.21, "3.2 s"],
  [9.97, "10 s"],
  [59.6, "1 min"],
  [75, "1 min 15 s"],
  [754, "12 min"],
  [4380, "1 h 13 min"],
])("%s seconds are %s", (seconds, text) => {
  expect(duration(i18next.getFixedT("en", "common"), seconds)).toBe(text);
});

test("what is left is told the more roughly the longer it is", () => {
  expect([3.2, 47, 133, 4367].map(rough)).toEqual([4, 45, 135, 4380]);
});

const progress = (index: number, stage: number, step: number, eta_s: number | null) => ({
  index,
  stage,
  stages: 2,
  step,
  steps: 10,
  current: 0,
  total: 0,
  eta_s,
});

test("a picture's share counts its stages and the steps of the present one", () => {
  expect(shareOf(undefined)).toBe(0);
  expect(shareOf(progress(0, 1, 5, null))).toBe(0.75);
});

test("a job's share counts painted pictures in full, and the slowest tells what is left", () => {
  const job = aJob({ count: 4, status: "processing" });
  const first = job.pictures[0];
  if (first) first.image_id = "img";
  const live = { 1: { progress: progress(1, 0, 5, 8) }, 2: { progress: progress(2, 1, 0, 5) } };
  expect(progressOf(job, live)).toEqual({ share: (1 + 0.25 + 0.5) / 4, eta: 8 });
});

test("what the server knows of a job holds until the first event", () => {
  const job = aJob({ status: "processing", progress: [progress(0, 1, 0, 9)] });
  expect(progressOf(job, undefined)).toEqual({ share: 0.5, eta: 9 });
});

test("a job that was answered with earlier pictures took no time", () => {
  const ended = aJob({ started_at: 10, finished_at: 22.5 });
  expect(tookOf(ended)).toBe(12.5);
  expect(tookOf({ ...ended, cached: true })).toBeNull();
});
