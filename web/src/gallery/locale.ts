/** How this browser's reader writes dates and numbers in a language of the page: "en" may be British or American. */
export function localeOf(language: string): string {
  return navigator.languages.find((known) => known.split("-")[0] === language) ?? language;
}
