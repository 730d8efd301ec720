/** The jobs that this tab has sent, newest last; they stay over a reload and are nobody else's. */

import { create } from "zustand";
import { createJSONStorage, persist } from "zustand/middleware";

const KEPT = 100;

export const useMine = create<{ ids: string[]; add: (id: string) => void }>()(
  persist(
    (set) => ({
      ids: [],
      add: (id) => set(({ ids }) => ({ ids: [...ids.filter((known) => known !== id), id].slice(-KEPT) })),
    }),
    { name: "limner-mine", storage: createJSONStorage(() => sessionStorage) },
  ),
);
