/**
 * English and Simplified Chinese. English comes with the page; Chinese is fetched when it is wanted. Every area of the
 * page has a namespace of its own, and Chinese has to have the keys of English, which the compiler checks.
 */

import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import { en } from "./en";

export const LANGUAGES = { en: "English", zh: "简体中文" } as const;
export type Language = keyof typeof LANGUAGES;
export type Words = typeof en;
export const NAMESPACES = Object.keys(en) as (keyof Words)[];

const KEPT = "limner-language";

declare module "i18next" {
  interface CustomTypeOptions {
    defaultNS: "common";
    resources: Words;
  }
}

/** What was chosen, else what the browser prefers. */
export function preferred(): Language {
  const kept = localStorage.getItem(KEPT);
  if (kept === "en" || kept === "zh") return kept;
  return navigator.languages.some((language) => language.toLowerCase().startsWith("zh")) &&
    !navigator.language.toLowerCase().startsWith("en")
    ? "zh"
    : "en";
}

export async function startI18n(language: Language = preferred()): Promise<void> {
  await i18next.use(initReactI18next).init({
    resources: { en },
    lng: "en",
    fallbackLng: "en",
    ns: NAMESPACES,
    defaultNS: "common",
    interpolation: { escapeValue: false },
    showSupportNotice: false,
  });
  await speak(language, false);
}

/** Changes the language of the page. */
export async function speak(language: Language, keep = true): Promise<void> {
  if (language === "zh" && !i18next.hasResourceBundle("zh", "common")) {
    const { zh } = await import("./zh");
    for (const [namespace, words] of Object.entries(zh)) i18next.addResourceBundle("zh", namespace, words);
  }
  await i18next.changeLanguage(language);
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  if (keep) localStorage.setItem(KEPT, language);
}
