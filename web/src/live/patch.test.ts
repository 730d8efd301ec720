import { expect, test } from "vitest";
import type { Job } from "@/api/jobs";
import { aJob } from "@/testing";
import { patched, withJob } from "./patch";
import type { EventMessage } from "./state";

const event = (data: object) => ({ job_id: "job_1", number: 1, at: 200, ...data }) as EventMessage;
const image = (index: number) =>
  event({ type: "image_generated", index, image_id: `img_${index}`, seed: "7", adapters: [] });
const fault = { type: "error", code: "out_of_memory", message: "Ask for less.", retryable: true };
const after = (job: Job, ...events: EventMessage[]) => events.reduce(patched, job);

test("a job that is begun runs and has no place in the line any more", () => {
  const begun = event({ type: "stage_update", scope: "job", status: "processing", attempt: 1, worker: "w" });
  const job = after(aJob({ queue_position: 2 }), begun);
  expect(job).toMatchObject({ status: "processing", attempt: 1, queue_position: null, started_at: 200 });
});

test("a second attempt keeps the time of the first one", () => {
  const again = event({ type: "stage_update", scope: "job", status: "processing", attempt: 2 });
  expect(after(aJob({ started_at: 150 }), again).started_at).toBe(150);
});

test("a painted picture takes its place, whatever the order", () => {
  const job = after(aJob({ count: 3 }), image(2), image(0));
  expect(job.pictures.map((picture) => picture.image_id)).toEqual(["img_0", null, "img_2"]);
});

test("a picture's fault stays with the picture, and the end says it for the job", () => {
  const end = event({ type: "done", status: "partial", images: 1, failed: 1 });
  const job = after(aJob({ count: 2 }), image(0), event({ ...fault, index: 1 }), end);
  expect(job.pictures[1]?.error?.code).toBe("out_of_memory");
  expect(job).toMatchObject({ status: "partial", finished_at: 200, error: { code: "out_of_memory" } });
});

test("what was asked for again has no faults any more", () => {
  const retry = event({ type: "stage_update", scope: "job", status: "pending", retry: true });
  const job = after(aJob({ count: 2 }), event({ ...fault, index: 1 }), event(fault), retry);
  expect(job.error).toBeNull();
  expect(job.pictures[1]?.error).toBeNull();
});

test("a warning that comes twice is told once", () => {
  const warning = event({ type: "warning", message: "Not quite.", code: "" });
  expect(after(aJob(), warning, warning).warnings).toEqual(["Not quite."]);
});

test("lists, pages and single jobs are changed, and are the same objects where nothing changes", () => {
  const [one, two] = [aJob(), aJob({ id: "job_2" })];
  const change = (job: Job) => ({ ...job, priority: 5 });
  const pages = {
    pages: [
      { jobs: [two], next_cursor: "1" },
      { jobs: [one], next_cursor: null },
    ],
    pageParams: [],
  };
  expect(withJob(one, "job_1", change)).toMatchObject({ priority: 5 });
  expect(withJob([two, one], "job_1", change)).toMatchObject([{ priority: 0 }, { priority: 5 }]);
  expect(withJob(pages, "job_1", change)).toMatchObject({ pages: [{}, { jobs: [{ priority: 5 }] }] });
  for (const known of [undefined, two, [two], pages]) expect(withJob(known, "job_3", change)).toBe(known);
});
