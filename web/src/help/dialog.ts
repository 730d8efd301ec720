/** Whether the list of shortcuts is shown over the page. */

import { create } from "zustand";

export const useShortcutsDialog = create<{ isOpen: boolean; open: () => void; close: () => void }>((set) => ({
  isOpen: false,
  open: () => set({ isOpen: true }),
  close: () => set({ isOpen: false }),
}));
