/** What is known of pictures under way: progress and previews, told by events and by nobody else. Pure. */

import type { Schemas } from "@/api/client";

export type Progress = Schemas["PictureProgress"];
export type EventMessage =
  | Schemas["JobUpdateMessage"]
  | Schemas["StageUpdateMessage"]
  | Schemas["InfoMessage"]
  | Schemas["ProgressMessage"]
  | Schemas["PreviewMessage"]
  | Schemas["ImageGeneratedMessage"]
  | Schemas["WarningMessage"]
  | Schemas["ErrorMessage"]
  | Schemas["DoneMessage"];

/** A picture on its way. Previews are data URLs. */
export type LivePicture = {
  progress?: Progress;
  preview?: string;
  previewStage?: number;
  /** Pixels of the stage that has begun last; its first step is told later. */
  size?: { stage: number; width: number; height: number };
  /** There once the picture is painted or has failed: what is told of its way afterwards came too late. */
  over?: true;
};

/** Pictures under way by job and by their number in it. */
export type LiveJobs = Readonly<Record<string, Readonly<Record<number, LivePicture>>>>;

export type LiveState = {
  jobs: LiveJobs;
  /** Jobs that have ended, the newest last, of which late news are not taken. */
  ended: readonly string[];
};

export const NOTHING: LiveState = { jobs: {}, ended: [] };
const ENDED_KEPT = 300;

/** The state after a message; the same object where nothing has changed. */
export function told(state: LiveState, message: EventMessage): LiveState {
  const id = message.job_id;
  switch (message.type) {
    case "progress":
      return withPicture(state, id, message.index, { progress: message });
    case "preview":
      return withPicture(state, id, message.index, {
        preview: `data:image/png;base64,${message.png}`,
        previewStage: message.stage,
      });
    case "stage_update":
      if ("scope" in message) return begunAnew(state, id);
      if (message.status !== "processing") return state;
      return withPicture(state, id, message.index, {
        size: { stage: message.stage, width: message.width, height: message.height },
      });
    case "image_generated":
      return over(state, id, message.index);
    case "error":
      return message.index === undefined ? state : over(state, id, message.index);
    case "done":
      return {
        jobs: without(state.jobs, id),
        ended: [...state.ended.filter((other) => other !== id), id].slice(-ENDED_KEPT),
      };
    default:
      return state;
  }
}

function withPicture(state: LiveState, id: string, index: number, news: LivePicture): LiveState {
  const job = state.jobs[id] ?? {};
  if (job[index]?.over || state.ended.includes(id)) return state;
  return { ...state, jobs: { ...state.jobs, [id]: { ...job, [index]: { ...job[index], ...news } } } };
}

function over(state: LiveState, id: string, index: number): LiveState {
  if (state.ended.includes(id)) return state;
  return { ...state, jobs: { ...state.jobs, [id]: { ...state.jobs[id], [index]: { over: true } } } };
}

/** A new attempt begins from nothing. */
function begunAnew(state: LiveState, id: string): LiveState {
  const isEnded = state.ended.includes(id);
  if (!isEnded && !(id in state.jobs)) return state;
  return {
    jobs: without(state.jobs, id),
    ended: isEnded ? state.ended.filter((other) => other !== id) : state.ended,
  };
}

function without(jobs: LiveJobs, id: string): LiveJobs {
  if (!(id in jobs)) return jobs;
  const { [id]: _, ...others } = jobs;
  return others;
}
