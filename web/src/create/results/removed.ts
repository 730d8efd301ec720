/** Pictures that were deleted from this page and can still be brought back in their place. */

import { create } from "zustand";

export const useRemoved = create<{ ids: ReadonlySet<string>; mark: (id: string, removed: boolean) => void }>(
  (set) => ({
    ids: new Set(),
    mark: (id, removed) =>
      set(({ ids }) => {
        const others = new Set(ids);
        if (removed) others.add(id);
        else others.delete(id);
        return { ids: others };
      }),
  }),
);
