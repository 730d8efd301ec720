/** Pictures that were deleted a moment ago: not shown, but still in the lists, so that undo puts them back in place. */

import { create } from "zustand";

type Hidden = {
  ids: ReadonlySet<string>;
  hide: (ids: readonly string[]) => void;
  show: (ids: readonly string[]) => void;
};

export const useHidden = create<Hidden>((set) => ({
  ids: new Set(),
  hide: (more) => set(({ ids }) => ({ ids: new Set([...ids, ...more]) })),
  show: (back) => set(({ ids }) => ({ ids: new Set([...ids].filter((id) => !back.includes(id))) })),
}));
