/** What went wrong with a job's pictures, each fault once. */

import type { Job } from "@/api/jobs";

type Fault = NonNullable<Job["error"]>;

/** Faults in the order of the pictures, with the numbers of those; the job's own first where no picture has it. */
export function faultsOf(job: Pick<Job, "error" | "pictures">): { fault: Fault; numbers: number[] }[] {
  const found = new Map<string, { fault: Fault; numbers: number[] }>();
  const add = (fault: Fault, number?: number) => {
    const key = `${fault.code} ${fault.message}`;
    const entry = found.get(key) ?? { fault, numbers: [] };
    if (number !== undefined) entry.numbers.push(number);
    found.set(key, entry);
  };
  if (job.error) add(job.error);
  for (const picture of job.pictures) if (picture.error) add(picture.error, picture.index);
  return [...found.values()];
}
