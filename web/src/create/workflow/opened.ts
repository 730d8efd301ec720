/** The workflow that is looked at: a file from wherever one was dropped, pasted or chosen. */

import { create } from "zustand";

export const useWorkflow = create<{ file: File | null; open: (file: File) => void; close: () => void }>()(
  (set) => ({
    file: null,
    open: (file) => set({ file }),
    close: () => set({ file: null }),
  }),
);

/** What a file picker shows. */
export const ACCEPTED = ".json,application/json";
