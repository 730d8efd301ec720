/** Whether jobs of this tab have ended while it was hidden, until somebody looks at it again. */

import { create } from "zustand";

export const useUnseen = create<{ isUnseen: boolean }>(() => ({ isUnseen: false }));
