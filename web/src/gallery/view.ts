/** How the gallery is looked at, kept in this browser: the size of the pictures, and whether the panel is open. */

import { create } from "zustand";
import { persist } from "zustand/middleware";

export const SIZES = ["small", "medium", "large"] as const;
export type GridSize = (typeof SIZES)[number];

type Kept = { size: GridSize; panel: boolean };

export const useView = create<Kept>()(
  persist((): Kept => ({ size: "medium", panel: window.matchMedia("(min-width: 62em)").matches }), {
    name: "limner-gallery",
    version: 1,
  }),
);
