/**
 * The line of waiting jobs: the order in which they are begun, and which priorities put a job elsewhere in it. Native
 * painting and other backends have lines of their own.
 */

import type { Job } from "@/api/jobs";

export const HIGHEST = 100;

export const laneOf = (job: Job) => ((job.request.backend ?? "native") === "native" ? "native" : "remote");

/** Waiting jobs as they will be begun: higher priorities first, then older ones. `jobs` are newest first. */
export function inLine(jobs: readonly Job[]): Job[] {
  const age = new Map(jobs.map((job, index) => [job.id, index]));
  const later = (a: Job, b: Job) => (age.get(b.id) ?? 0) - (age.get(a.id) ?? 0);
  return jobs
    .filter((job) => job.status === "pending")
    .sort((a, b) => b.priority - a.priority || a.created_at - b.created_at || later(a, b));
}

/** How many jobs of its line go before each waiting job. */
export function places(jobs: readonly Job[]): Map<string, number> {
  const count = { native: 0, remote: 0 };
  return new Map(inLine(jobs).map((job) => [job.id, count[laneOf(job)]++]));
}

type Waiting = Pick<Job, "id" | "priority" | "created_at">;

/**
 * The priorities to change so that the job at `from` comes to `to` (further in front) in a line; as few as possible.
 * Null when no priorities can say it.
 */
export function moved(
  line: readonly Waiting[],
  from: number,
  to: number,
): { id: string; priority: number }[] | null {
  const job = line[from];
  if (job === undefined || to >= from || to < 0) return [];
  const arrival = new Map([...line].sort(byArrival).map(({ id }, index) => [id, index]));
  const wanted = [...line.slice(0, to), job, ...line.slice(to, from), ...line.slice(from + 1)];
  const given = priorities(wanted, arrival, job.id, (waiting) => waiting.priority);
  const fitting = fits(given) ? given : priorities(wanted, arrival, job.id, () => 0);
  if (!fits(fitting)) return null;
  return wanted
    .map(({ id }, index) => ({ id, priority: fitting[index] ?? 0 }))
    .filter(({ id, priority }) => line.find((waiting) => waiting.id === id)?.priority !== priority);
}

/** From the back of the line to its front: each job keeps its priority unless that is too low for its place. */
function priorities(
  wanted: readonly Waiting[],
  arrival: ReadonlyMap<string, number>,
  mover: string,
  own: (job: Waiting) => number,
): number[] {
  const found: number[] = new Array(wanted.length).fill(0);
  for (let at = wanted.length - 1; at >= 0; at--) {
    const [job, next] = [wanted[at], wanted[at + 1]];
    if (job === undefined) continue;
    const isLater = next !== undefined && (arrival.get(job.id) ?? 0) > (arrival.get(next.id) ?? 0);
    const least = next === undefined ? Number.NEGATIVE_INFINITY : (found[at + 1] ?? 0) + (isLater ? 1 : 0);
    found[at] = Math.max(least, job.id === mover && next !== undefined ? least : own(job));
  }
  return found;
}

const fits = (found: readonly number[]) => found.every((priority) => Math.abs(priority) <= HIGHEST);
const byArrival = (a: Waiting, b: Waiting) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1);
