import { afterEach, describe, expect, it } from "vitest";
import { choose, language, percent, preferred, t, tOr, WORDS } from "../src/state/i18n";
import en from "../src/lang/en.json";

const rule = (key: string): boolean => key.startsWith("rule."); // English is the server's own
const holes = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map(one => one[1]!).sort();
afterEach(() => void (language.value = "en"));

describe.each(["zh", "ru"] as const)("%s", code => {
  it("has every key and no other", () => {
    expect(Object.keys(WORDS[code]).filter(key => !rule(key)).sort()).toEqual(Object.keys(en).sort());
  });
  it("fills the same holes", () => {
    for (const [key, text] of Object.entries(en)) expect([key, holes(WORDS[code][key]!)]).toEqual([key, holes(text)]);
  });
  it("is written in its own letters", () => {
    const own = code === "zh" ? /\p{Script=Han}/u : /\p{Script=Cyrillic}/u;
    const names = /^(UNet|A|B|IN|MID|OUT|bf16)$/;
    const foreign = Object.entries(WORDS[code]).filter(([, text]) => !own.test(text) && !names.test(text));
    expect(foreign).toEqual([]);
  });
  it("says the rules of all symptoms", () => {
    expect(Object.keys(WORDS[code]).filter(rule)).toEqual(Object.keys(WORDS.zh).filter(rule));
  });
});

it("has the keys that the source asks for, and no others", () => {
  const files = import.meta.glob<string>("../src/**/*.{ts,tsx}", { query: "?raw", import: "default", eager: true });
  const text = Object.values(files).join("\n");
  const fixed = new Set([...text.matchAll(/"([a-zA-Z0-9.-]+)"/g)].map(one => one[1]!));
  const made = [...text.matchAll(/\bt(?:Or)?\(`([^`]+)`/g)].map(one => new RegExp(`^${one[1]!.replace(/[.]/g, "\\.").replace(/\$\{.*?\}+/g, ".+").replace(/\.\+.*(?=\$\{)/, ".+")}$`));
  const unused = Object.keys(en).filter(key => !fixed.has(key) && !made.some(pattern => pattern.test(key)));
  expect(unused).toEqual([]);
});

it("takes the first of the browser's languages that there is", () => {
  expect(preferred(["fr-CA", "ru-RU", "en"])).toBe("ru");
  expect(preferred(["zh-TW"])).toBe("zh");
  expect(preferred(["eo"])).toBe("en");
  expect(preferred([])).toBe("en");
});
it("changes at once, fills holes and falls back to what the server says", () => {
  choose("ru");
  expect(t("epoch.number", { epoch: 6 })).toBe("Эпоха 6");
  expect(tOr("symptom.nose", "nose")).toBe("nose");
  expect(t("epoch.number")).toContain("{epoch}");
});
it("says small shares without lying", () => expect([0, 0.004, 0.006, 1].map(percent)).toEqual(["0%", "<1%", "1%", "100%"]));
