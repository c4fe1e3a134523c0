// The page's words: one JSON a language. test/i18n.test.ts holds that no key is missing and that placeholders agree.
import { computed, signal } from "@preact/signals";
import en from "../lang/en.json";
import ru from "../lang/ru.json";
import zh from "../lang/zh.json";
import serverEn from "../../words/en.json";
import serverRu from "../../words/ru.json";
import serverZh from "../../words/zh.json";
import type { Words } from "../api/types";
import { recall, remember } from "./storage";

export type Key = keyof typeof en;
export type Language = "en" | "zh" | "ru";
export const LANGUAGES: Record<Language, string> = { en: "English", zh: "简体中文", ru: "Русский" };
export const WORDS: Record<Language, Record<string, string>> = { en, zh, ru };
/** What the server says, by its keys. */
export const SERVER: Record<Language, Record<string, string>> = { en: serverEn, zh: serverZh, ru: serverRu };

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
  return filled(words.value[key] ?? en[key] ?? key, values);
}

const filled = (text: string, values: Record<string, string | number>): string =>
  text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));

/** What the server says, in the person's language; words without a key are data, the same in every language. */
export function said({ key, values = {}, text }: Pick<Words, "text"> & Partial<Words>): string {
  const own = key ? SERVER[language.value][key] : undefined;
  if (own === undefined) return text;
  const { figure, how } = values;
  const named: Record<string, string> = figure === undefined ? {} : { figure: tOr(`figure.${figure}`, String(figure)) };
  const ended: Record<string, string> = how === undefined ? {} : { how: filled(SERVER[language.value][`how.${how}`] ?? String(how), values) };
  return filled(own, { ...values, ...named, ...ended });
}

/** The sentence and the remedy of a failure. */
export const told = ({ error, remedy, key, values }: { error: string; remedy: string | null; key?: string; values?: Words["values"] }): [string, string | null] =>
  [said({ key, values, text: error }), remedy === null ? null : said({ key: key ? `${key}.remedy` : "", values, text: remedy })];

/** A text whose key is made at run time (a job's state, a symptom); the fallback is the server's own word. */
export function tOr(key: string, fallback: string): string {
  return words.value[key] ?? (en as Record<string, string>)[key] ?? fallback;
}

export const number = (value: number, digits = 2): string =>
  value.toLocaleString(language.value, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const percent = (part: number): string =>
  part > 0 && part < 0.005 ? "<1%" : `${Math.round(part * 100)}%`;
