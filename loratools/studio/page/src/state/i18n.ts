// The page's words: one JSON a language. test/i18n.test.ts holds that no key is missing and that placeholders agree.
import { computed, signal } from "@preact/signals";
import en from "../lang/en.json";
import ru from "../lang/ru.json";
import zh from "../lang/zh.json";
import { recall, remember } from "./storage";

export type Key = keyof typeof en;
export type Language = "en" | "zh" | "ru";
export const LANGUAGES: Record<Language, string> = { en: "English", zh: "简体中文", ru: "Русский" };
export const WORDS: Record<Language, Record<string, string>> = { en, zh, ru };

/** The first of the browser's languages that the page has; English otherwise. */
export function preferred(languages: readonly string[]): Language {
  for (const language of languages) {
    const code = language.slice(0, 2).toLowerCase();
    if (code in WORDS) return code as Language;
  }
  return "en";
}

const fromBrowser = (): Language => preferred(typeof navigator === "undefined" ? [] : navigator.languages);
export const language = signal<Language>(fromBrowser());
const words = computed(() => WORDS[language.value]);

/** Take the language that was chosen at an earlier visit. */
export function recallLanguage(): void {
  const kept = recall<string>("language", "");
  if (kept in WORDS) language.value = kept as Language;
}

export function choose(next: Language): void {
  language.value = next;
  remember("language", next);
}

/** A text of the page; {name} stands for a value. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  const text = words.value[key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}

/** A text whose key is made at run time (a job's state, a symptom); the fallback is the server's own word. */
export function tOr(key: string, fallback: string): string {
  return words.value[key] ?? (en as Record<string, string>)[key] ?? fallback;
}

export const number = (value: number, digits = 2): string =>
  value.toLocaleString(language.value, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const percent = (part: number): string =>
  part > 0 && part < 0.005 ? "<1%" : `${Math.round(part * 100)}%`;
