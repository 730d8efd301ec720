/** Whether the queue is shown over the page. */

import { create } from "zustand";

export const useQueueDrawer = create<{ isOpen: boolean; toggle: () => void; close: () => void }>((set) => ({
  isOpen: false,
  toggle: () => set(({ isOpen }) => ({ isOpen: !isOpen })),
  close: () => set({ isOpen: false }),
}));
