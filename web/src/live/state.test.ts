import { expect, test } from "vitest";
import { type EventMessage, type LiveState, NOTHING, told } from "./state";

const about = { job_id: "job_1", number: 1, at: 0 };
const step = (index: number, now: number, job_id = "job_1") =>
  ({
    type: "progress",
    job_id,
    index,
    current: now,
    total: 9,
    stage: 0,
    stages: 1,
    step: now,
    steps: 9,
    eta_s: 3,
  }) as EventMessage;
const preview = (index: number) =>
  ({ type: "preview", job_id: "job_1", index, stage: 0, step: 1, png: "QUJD" }) as EventMessage;
const image = (index: number) =>
  ({
    ...about,
    type: "image_generated",
    index,
    image_id: "img_1",
    width: 1,
    height: 1,
    seed: "1",
    adapters: [],
  }) as EventMessage;
const done = { ...about, type: "done", status: "completed", images: 1, failed: 0 } as EventMessage;
const begun = {
  ...about,
  type: "stage_update",
  scope: "job",
  status: "processing",
  attempt: 2,
} as EventMessage;
const all = (...messages: EventMessage[]): LiveState => messages.reduce(told, NOTHING);

test("progress and preview of each picture are kept apart", () => {
  const { jobs } = all(step(0, 1), step(1, 4), preview(0), step(0, 2));
  expect(jobs.job_1?.[0]?.progress?.step).toBe(2);
  expect(jobs.job_1?.[0]?.preview).toBe("data:image/png;base64,QUJD");
  expect(jobs.job_1?.[1]?.progress?.step).toBe(4);
});

test("a stage's size is known once it begins", () => {
  const stage = {
    ...about,
    type: "stage_update",
    index: 0,
    stage: 1,
    stages: 3,
    status: "processing",
    width: 336,
    height: 432,
  };
  expect(all(stage as EventMessage).jobs.job_1?.[0]?.size).toEqual({ stage: 1, width: 336, height: 432 });
});

test("a painted picture gives up its preview, and what comes late is not taken", () => {
  expect(all(preview(0), image(0), step(0, 9), preview(0)).jobs.job_1?.[0]).toEqual({ over: true });
});

test("nothing is left of an ended job, also when news of it come late", () => {
  expect(all(step(0, 1), done, step(0, 2), image(0)).jobs).toEqual({});
});

test("a new attempt begins from nothing and is listened to", () => {
  expect(all(preview(0), begun).jobs).toEqual({});
  expect(all(done, begun, step(0, 1)).jobs.job_1?.[0]?.progress?.step).toBe(1);
});

test("a picture that failed is over, the others go on", () => {
  const error = {
    ...about,
    type: "error",
    index: 0,
    code: "x",
    message: "no",
    retryable: false,
  } as EventMessage;
  const { jobs } = all(step(0, 1), step(1, 1), error);
  expect(jobs.job_1?.[0]).toEqual({ over: true });
  expect(jobs.job_1?.[1]?.progress?.step).toBe(1);
});

test("an event of another kind or without news leaves the very same state", () => {
  const state = all(step(0, 1));
  expect(told(state, { ...about, type: "news" } as unknown as EventMessage)).toBe(state);
  expect(told(state, { ...begun, job_id: "job_2" } as EventMessage)).toBe(state);
});

test("memory of ended jobs has an end", () => {
  const ends = Array.from({ length: 1000 }, (_, n) => ({ ...done, job_id: `job_${n}` }) as EventMessage);
  expect(all(...ends).ended.length).toBeLessThanOrEqual(300);
  expect(all(...ends).ended.at(-1)).toBe("job_999");
});
