/**
 * One stream of events for the tab. Events patch what the cache holds of a job, and lists are fetched anew a little
 * later, many events at once; after a connection was lost everything is, because the server starts a fresh stream with
 * what happens now.
 */

import type { QueryClient } from "@tanstack/react-query";
import { create } from "zustand";
import { imageKeys } from "@/api/images";
import { jobKeys } from "@/api/jobs";
import { tellEnd } from "./ended";
import { type KnownJobs, patched, withJob } from "./patch";
import { readStream } from "./sse";
import { type EventMessage, type LiveState, NOTHING, told } from "./state";

const LATEST_ONLY = new Set(["progress", "preview"]);
const TOGETHER_MS = 60; // what arrives within that is shown at once
const LISTS_EVERY_MS = 1_000;
const LONGEST_PAUSE_MS = 8_000;
const STABLE_MS = 5_000; // a connection that lasts as long was a good one
const SILENCE_MS = 25_000; // the server fills silence every ten seconds
const TICK_MS = 5_000;

export type Connection = "connecting" | "open" | "lost";

export const useLive = create<LiveState & { connection: Connection }>(() => ({
  connection: "connecting",
  ...NOTHING,
}));

/** Listens until the returned function is called. */
export function listen(client: QueryClient): () => void {
  const inbox = makeInbox(client);
  let line: AbortController | undefined;
  let retry: number | undefined;
  let failures = 0;
  let wasOpen = false;
  let hiddenAt = 0;
  let tickedAt = Date.now();

  const connect = async () => {
    window.clearTimeout(retry);
    line?.abort();
    const mine = new AbortController();
    line = mine;
    let openedAt = 0;
    try {
      await readStream("/api/events", SILENCE_MS, mine.signal, {
        onOpen: () => {
          openedAt = Date.now();
          inbox.clear();
          useLive.setState({ connection: "open", ...NOTHING });
          // What happened since the page was fetched, or while nobody listened, was told to nobody.
          void client.invalidateQueries(wasOpen ? {} : { queryKey: jobKeys.all });
          wasOpen = true;
        },
        onData: (data) => {
          const message = read(data);
          if (message) inbox.put(message);
        },
      });
    } catch {
      // Whatever it was: it is tried again, and the page says so meanwhile.
    }
    if (mine.signal.aborted) return; // somebody else has begun a new line, or nobody listens any more
    if (openedAt && Date.now() - openedAt > STABLE_MS) failures = 0;
    useLive.setState({ connection: "lost" });
    retry = window.setTimeout(connect, Math.min(LONGEST_PAUSE_MS, 500 * 2 ** failures++));
  };

  // A laptop that slept does not notice that its line is dead: a tick that comes far too late tells.
  const tick = window.setInterval(() => {
    const late = Date.now() - tickedAt > SILENCE_MS;
    tickedAt = Date.now();
    if (late && !document.hidden) void connect();
  }, TICK_MS);
  const onVisible = () => {
    tickedAt = Date.now(); // ticks are seldom while the page is hidden
    if (document.hidden) hiddenAt = Date.now();
    else if (Date.now() - hiddenAt > SILENCE_MS) void connect();
  };
  document.addEventListener("visibilitychange", onVisible);
  window.addEventListener("online", connect);
  void connect();
  return () => {
    line?.abort();
    inbox.clear();
    window.clearTimeout(retry);
    window.clearInterval(tick);
    document.removeEventListener("visibilitychange", onVisible);
    window.removeEventListener("online", connect);
  };
}

function read(data: string): EventMessage | undefined {
  try {
    return JSON.parse(data) as EventMessage;
  } catch {
    return undefined; // a line that was cut off; what it said is fetched with the next list
  }
}

/** Takes messages and works on those of a moment together: a burst of previews makes one rendering. */
function makeInbox(client: QueryClient) {
  let messages: EventMessage[] = [];
  let flushing: number | undefined;
  let fetching: number | undefined;
  const stale = new Set<"jobs" | "images">();

  const fetchLists = () => {
    fetching = undefined;
    if (stale.has("jobs")) void client.invalidateQueries({ queryKey: jobKeys.all });
    if (stale.has("images")) void client.invalidateQueries({ queryKey: imageKeys.all });
    stale.clear();
  };
  const flush = () => {
    flushing = undefined;
    const news = messages;
    messages = [];
    const { jobs, ended } = useLive.getState();
    const before = { jobs, ended };
    const after = news.reduce(told, before);
    if (after !== before) useLive.setState(after);
    for (const message of news) {
      if (LATEST_ONLY.has(message.type)) continue;
      client.setQueriesData<KnownJobs>({ queryKey: jobKeys.all }, (known) =>
        withJob(known, message.job_id, (job) => patched(job, message)),
      );
      if (message.type === "done" || message.type === "error" || "scope" in message) stale.add("jobs");
      if (message.type === "image_generated") stale.add("images").add("jobs");
      if (message.type === "done") tellEnd(message);
    }
    if (stale.size && fetching === undefined) fetching = window.setTimeout(fetchLists, LISTS_EVERY_MS);
  };
  return {
    put(message: EventMessage) {
      messages.push(message);
      flushing ??= window.setTimeout(flush, TOGETHER_MS);
    },
    clear() {
      messages = [];
      window.clearTimeout(flushing);
      window.clearTimeout(fetching);
      flushing = fetching = undefined;
      stale.clear();
    },
  };
}
