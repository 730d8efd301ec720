/** What a preset's stages come to. */

import type { Stage } from "@/api/catalog";

export type StagesSummary = {
  /** Steps of all stages together. */
  steps: number;
  /** Of the finished picture, in pixels. */
  width: number;
  height: number;
};

/** Undefined where there is no stage. */
export function summary(stages: readonly Stage[]): StagesSummary | undefined {
  const last = stages.at(-1);
  if (last === undefined) return undefined;
  const steps = stages.reduce((sum, stage) => sum + (stage.steps ?? 20), 0);
  return { steps, width: last.width, height: last.height };
}

/** The longest side of all stages in pixels. */
export const longest = (stages: readonly Stage[]): number =>
  Math.max(...stages.map((stage) => Math.max(stage.width, stage.height)));

/** Sides of each stage's frame in a drawing, in its units; a stage with `side` pixels is drawn with `largest`. */
export function frames(
  stages: readonly Stage[],
  largest: number,
  side: number,
): { width: number; height: number }[] {
  return stages.map(({ width, height }) => ({
    width: (width / side) * largest,
    height: (height / side) * largest,
  }));
}
