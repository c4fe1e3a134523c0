import { afterEach, describe, expect, it } from "vitest";
import { choose, language, percent, preferred, said, SERVER, t, told, tOr, WORDS } from "../src/state/i18n";
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
  it("says all that the server says, with the same holes", () => {
    expect(Object.keys(SERVER[code]).sort()).toEqual(Object.keys(SERVER.en).sort());
    for (const [key, text] of Object.entries(SERVER.en)) expect([key, holes(SERVER[code][key]!)]).toEqual([key, holes(text)]);
  });
  it("is written in its own letters", () => {
    const own = code === "zh" ? /\p{Script=Han}/u : /\p{Script=Cyrillic}/u;
    const names = /^(UNet|A|B|IN|MID|OUT|bf16)$/;
    const all = [...Object.entries(WORDS[code]), ...Object.entries(SERVER[code])];
    const foreign = all.filter(([, text]) => !own.test(text) && !names.test(text));
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
it("says the server's words in the person's language, and the library's as they are", () => {
  const failure = { error: "x.png has changed", remedy: "reload the page", key: "file.changed", values: { name: "x.png" } };
  expect(told(failure)).toEqual(["x.png has changed", "reload the page"]);
  choose("zh");
  expect(told(failure)).toEqual(["x.png 已被修改", "请重新加载页面"]);
  expect(said({ key: "verdict.defects", values: { epochs: "1-2", figure: "hands" }, text: "..." })).toBe("第 1-2 轮：缺陷更多（手）");
  expect(said({ key: "", values: {}, text: "no LoRA" })).toBe("no LoRA");
  expect(told({ error: "no LoRA", remedy: null })).toEqual(["no LoRA", null]);
});
it("says how a process ended in the person's language, and that it quotes the library", () => {
  const ended = { key: "live.restarted", values: { how: "signal", code: 11 }, text: "..." };
  expect(said(ended)).toBe("the drawing process ended (signal 11) and is started again");
  choose("ru");
  expect(said(ended)).toContain("(сигнал 11)");
  const failure = { error: "x has no block IN99", remedy: null, key: "quoted", values: { text: "x has no block IN99" } };
  expect(told(failure)).toEqual(["сообщение программы (на английском): x has no block IN99", null]);
});
it("says small shares without lying", () => expect([0, 0.004, 0.006, 1].map(percent)).toEqual(["0%", "<1%", "1%", "100%"]));
