import { beforeEach, describe, expect, it } from "vitest";
import {
  addLayer, begin, canRedo, canUndo, change, commit, desk, effective, moveLayer, MOST_STEPS, newLayer, redo, removeLayer, reset,
  rounded, selected, setWeight, shiftWeights, toggle, toStack, undo, untouched,
} from "../src/state/stack";

const blocks = ["BASE", "IN01", "OUT03"];
const layer = () => desk.value.layers[0]!;
beforeEach(() => {
  reset();
  addLayer(newLayer("a", "ink@6"));
});

describe("undo", () => {
  it("takes a whole drag back in one step, and redo puts it there again", () => {
    const { key } = layer();
    begin();
    for (let n = 1; n <= 40; n++) setWeight(key, "IN01", n / 100);
    commit();
    setWeight(key, "OUT03", 0.5);
    undo();
    expect(layer().vector).toEqual({ IN01: 0.4 });
    undo();
    expect(layer().vector).toEqual({});
    redo();
    redo();
    expect(layer().vector).toEqual({ IN01: 0.4, OUT03: 0.5 });
    expect(canRedo.value).toBe(false);
  });
  it("counts no drag that changed nothing", () => {
    undo();
    expect(canUndo.value).toBe(false);
    redo();
    begin();
    commit();
    setWeight(layer().key, "IN01", 1);
    undo();
    expect(desk.value.layers).toEqual([]);
  });
  it("forgets the future when something new is done, and the far past", () => {
    const { key } = layer();
    setWeight(key, "IN01", 0.5);
    undo();
    setWeight(key, "IN01", 0.7);
    expect(canRedo.value).toBe(false);
    for (let n = 0; n < MOST_STEPS + 50; n++) setWeight(key, "IN01", n);
    let steps = 0;
    while (canUndo.value) {
      undo();
      steps += 1;
    }
    expect(steps).toBe(MOST_STEPS);
  });
  it("in the middle of a drag ends it first", () => {
    begin();
    setWeight(layer().key, "IN01", 0.2);
    undo();
    expect(layer().vector).toEqual({});
    commit();
    expect(canRedo.value).toBe(true);
  });
});

describe("layers", () => {
  it("have keys of their own, move and go", () => {
    addLayer(newLayer("b", "base", -1));
    addLayer(newLayer("a", "ink@6"));
    expect(new Set(desk.value.layers.map(one => one.key)).size).toBe(3);
    const [first, second] = desk.value.layers.map(one => one.key);
    moveLayer(second!, -1);
    expect(desk.value.layers.map(one => one.lora)).toEqual(["b", "a", "a"]);
    moveLayer(second!, -1); // the end
    expect(desk.value.layers[0]!.key).toBe(second);
    selected.value = 2;
    removeLayer(first!);
    removeLayer(second!);
    expect(selected.value).toBe(0);
  });
});

describe("what a block counts with", () => {
  it("is nothing when muted, or when others are solo", () => {
    const { key } = layer();
    setWeight(key, "IN01", 0.8);
    toggle(key, "solo", ["IN01"]);
    expect(blocks.map(block => effective(layer(), block))).toEqual([0, 0.8, 0]);
    toggle(key, "muted", ["IN01"]);
    expect(blocks.map(block => effective(layer(), block))).toEqual([0, 0, 0]);
    toggle(key, "solo", ["IN01"]);
    expect(blocks.map(block => effective(layer(), block))).toEqual([1, 0, 1]);
    toggle(key, "muted", ["IN01"]);
    expect(layer().muted).toEqual([]);
  });
  it("is what the server is sent, every block by its name; a plain one needs no vector", () => {
    const { key } = layer();
    change({ ...desk.value, base: "pocket" });
    expect(toStack(desk.value, () => blocks)).toEqual({ base: "pocket", terms: [{ lora: "a", weight: 1, vector: null, te: 1, unet: 1 }] });
    expect(untouched(layer())).toBe(true);
    toggle(key, "muted", ["BASE"]);
    expect(untouched(layer())).toBe(false);
    expect(toStack(desk.value, () => blocks).terms[0]!.vector).toEqual({ BASE: 0, IN01: 1, OUT03: 1 });
  });
  it("moves with its group", () => {
    const { key } = layer();
    shiftWeights(key, { IN01: 0.5, OUT03: 1 }, ["IN01", "OUT03"], 0.1);
    expect(layer().vector).toEqual({ IN01: 0.6, OUT03: 1.1 });
  });
});

it("rounds without dust", () => {
  expect(rounded(0.1 + 0.2)).toBe(0.3);
  expect(Object.is(rounded(-0.001), 0)).toBe(true);
  expect(rounded(1.005, 0.05)).toBe(1);
});
