import { describe, expect, it } from "vitest";
import { given, nameOf, presetFor, SETTINGS } from "../src/queue/train_dialog";
import { t } from "../src/state/i18n";
import type { PictureFolder, TrainPreset } from "../src/api/types";

const preset = (name: string): TrainPreset => ({ name, source: "", settings: {} });
const folder = (name: string): PictureFolder => ({ id: "i", name, root: "r", path: name, pictures: 3, captions: 2 });

describe("what is typed for a training", () => {
  it("is sent as numbers and words, and an empty field is the preset's own", () => {
    expect(given({ epochs: " 4", alpha: "0,5", unet_lr: "1e-4", resolution: "512x768", seed: "" }))
      .toEqual({ epochs: 4, alpha: 0.5, unet_lr: 1e-4, resolution: "512x768" });
    expect(given({ resolution: "512,768" })).toEqual({ resolution: "512,768" }); // two numbers, not one
  });
  it("begins with the base's preset", () => {
    const all = [preset("default"), preset("style-004"), preset("pocket-style")];
    expect([presetFor("pocket", all), presetFor("x1", all), presetFor("x1", []), presetFor("x1", [preset("mine")])])
      .toEqual(["pocket-style", "style-004", "", "mine"]);
  });
  it("is called after its folder", () => {
    expect(["10_ink", "my pictures", "图片", "..."].map(name => nameOf(folder(name)))).toEqual(["ink_lora", "my_pictures_lora", "图片_lora", "my_lora"]);
    expect(nameOf(undefined)).toBe("my_lora");
  });
  it("has words for every setting", () => {
    for (const setting of SETTINGS) expect(t(`train.${setting}`)).not.toContain("train.");
  });
});
