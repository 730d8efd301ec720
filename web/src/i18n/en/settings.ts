export const settings = {
  title: "Settings",
  groups: { page: "The page", kept: "Kept in this browser", about: "About" },
  language: {
    label: "Language",
    hint: "Prompts may be written in either language, whatever is chosen here.",
  },
  colours: {
    label: "Colours",
    hint: "System follows what your device is set to.",
    light: "Light",
    dark: "Dark",
    auto: "System",
  },
  notify: {
    label: "Tell me when pictures are finished",
    hint: "Shows a message of your system while this page is in the background.",
    denied:
      "The browser was told not to show messages of this page. Allow them in its settings for this address.",
    insecure: "Browsers allow this only over HTTPS, or where the server runs on this machine.",
    unsupported: "This browser cannot show messages.",
  },
  history: {
    label: "Earlier prompts",
    hint_one: "{{count}} prompt is remembered for Alt+↑ and Alt+↓.",
    hint_other: "{{count}} prompts are remembered for Alt+↑ and Alt+↓.",
    none: "No prompt is remembered.",
    clear: "Forget them",
    cleared: "Earlier prompts are forgotten.",
  },
  form: {
    label: "The form of Create",
    hint: "Puts every field back to its default; prompt and model stay.",
    clear: "Reset the form",
    cleared: "The form is reset.",
  },
  undo: "Undo",
  about: {
    version: "Version of limner",
    licence: "Licence",
    licenceHint: "Free to use, change and share.",
  },
};
