/** Every key that does something, by where it does. The texts are in the words of the page. */

export const SHORTCUTS = [
  {
    place: "create",
    keys: [
      { name: "paint", combos: [["Ctrl", "Enter"]] },
      { name: "cancel", combos: [["Shift", "X"]] },
      { name: "earlier", combos: [["Alt", "↑"]] },
      { name: "later", combos: [["Alt", "↓"]] },
    ],
  },
  {
    place: "everywhere",
    keys: [
      { name: "queue", combos: [["Q"]] },
      { name: "goCreate", combos: [["G"], ["C"]] },
      { name: "goGallery", combos: [["G"], ["G"]] },
      { name: "goLibrary", combos: [["G"], ["L"]] },
      { name: "shortcuts", combos: [["?"]] },
    ],
  },
  {
    place: "viewer",
    keys: [
      { name: "previous", combos: [["←"]] },
      { name: "next", combos: [["→"]] },
      { name: "favourite", combos: [["F"]] },
      { name: "download", combos: [["D"]] },
      { name: "details", combos: [["I"]] },
      { name: "compare", combos: [["C"]] },
      { name: "delete", combos: [["Delete"]] },
      { name: "close", combos: [["Esc"]] },
    ],
  },
] as const;
