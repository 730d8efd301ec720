/** What a person prefers on this browser, beside language and colours, which the page itself keeps. */

import { create } from "zustand";
import { persist } from "zustand/middleware";

type Preferences = {
  /** Whether to tell of finished jobs while the page is in the background. */
  notify: boolean;
  setNotify: (notify: boolean) => void;
};

export const usePreferences = create<Preferences>()(
  persist(
    (set) => ({
      notify: false,
      setNotify: (notify) => set({ notify }),
    }),
    { name: "limner-preferences", version: 1 },
  ),
);
