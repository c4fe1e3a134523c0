import { beforeEach, describe, expect, it } from "vitest";
import {
  addLayer, begin, canRedo, canUndo, change, claimKeys, commit, desk, effective, effectiveVector, moveLayer, MOST_STEPS, newLayer, redo, removeLayer, reset,
  rounded, selected, setRules, setWeight, shiftWeights, toggle, toStack, undo, untouched,
} from "../src/state/stack";

import { ruleGroups } from "../src/state/rules";

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

describe("the selected layer", () => {
  const names = (): string | undefined => desk.value.layers[selected.value]?.lora;
  beforeEach(() => {
    addLayer(newLayer("b", "base"));
    addLayer(newLayer("c", "other"));
  });
  it("stays so when others move, go or come back", () => {
    selected.value = 1;
    moveLayer(desk.value.layers[0]!.key, 1);
    expect(names()).toBe("b");
    removeLayer(desk.value.layers[1]!.key);
    expect(names()).toBe("b");
    undo();
    undo();
    expect([names(), selected.value]).toEqual(["b", 1]);
  });
  it("is one that is there, also after an undo or another desk", () => {
    undo(); // it was the third, which is gone
    expect(names()).toBe("b");
    redo();
    selected.value = 2;
    change({ ...desk.value, layers: [newLayer("d", "short")] });
    expect(names()).toBe("d");
    change({ ...desk.value, layers: [] });
    expect(selected.value).toBe(0);
  });
});

it("new layers have other keys than those of an earlier visit, wherever these are kept", () => {
  claimKeys({ base: "", layers: [{ ...newLayer("x", "in A"), key: 41 }] });
  expect(newLayer("y", "new").key).toBe(42);
  reset({ base: "", layers: [{ ...newLayer("x", "on the desk"), key: 77 }] });
  reset();
  expect(newLayer("z", "newer").key).toBe(78);
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
    shiftWeights(key, { IN01: 0.125, OUT03: 1 }, ["IN01"], 0.1);
    expect(layer().vector.IN01).toBe(0.225); // all of its digits, as a search or a person gave them
  });
});

it("rounds without dust", () => {
  expect(rounded(0.1 + 0.2)).toBe(0.3);
  expect(Object.is(rounded(-0.001), 0)).toBe(true);
  expect(rounded(1.005, 0.05)).toBe(1);
});

describe("rules for kinds of layers", () => {
  it("are set, changed and removed by one step of undo each", () => {
    const { key } = layer();
    setRules(key, ["OUT03/attn1"], 0.5);
    setRules(key, ["OUT03/attn1"], 0.3);
    setRules(key, ["IN01/ff"], 2);
    expect(untouched(layer())).toBe(false);
    setRules(key, ["OUT03/attn1", "IN01/ff"], null);
    expect(layer().vector).toEqual({});
    undo();
    expect(layer().vector).toEqual({ "OUT03/attn1": 0.3, "IN01/ff": 2 });
    undo();
    undo();
    expect(layer().vector).toEqual({ "OUT03/attn1": 0.5 });
  });
  it("come after the blocks in what is drawn and written, in their order", () => {
    const { key } = layer();
    setRules(key, ["IN01-OUT03/attn"], 0);
    setWeight(key, "OUT03", 0.8);
    setRules(key, ["OUT03/attn1"], 0.3);
    const { vector } = toStack(desk.value, () => blocks).terms[0]!;
    expect(Object.entries(vector!)).toEqual([["BASE", 1], ["IN01", 1], ["OUT03", 0.8], ["IN01-OUT03/attn", 0], ["OUT03/attn1", 0.3]]);
    expect(toStack(desk.value, () => null).terms[0]!.vector).toEqual({ OUT03: 0.8, "IN01-OUT03/attn": 0, "OUT03/attn1": 0.3 });
  });
  it("keep their distance to their block's number, whether it or its group moves", () => {
    const { key } = layer();
    setRules(key, ["OUT03/attn1"], 0.3);
    setRules(key, ["IN/attn"], 0.5);
    setWeight(key, "OUT03", 0.8);
    expect(layer().vector).toEqual({ OUT03: 0.8, "OUT03/attn1": 0.1, "IN/attn": 0.5 });
    shiftWeights(key, { OUT03: 0.8, IN01: 1 }, ["IN01", "OUT03"], 0.2);
    expect(layer().vector).toEqual({ IN01: 1.2, OUT03: 1, "OUT03/attn1": 0.3, "IN/attn": 0.5 });
    undo();
    undo();
    expect(layer().vector).toEqual({ "OUT03/attn1": 0.3, "IN/attn": 0.5 });
  });
  it("of a silent block are silent too", () => {
    const { key } = layer();
    setRules(key, ["OUT03/attn1"], 0.3);
    toggle(key, "muted", ["OUT03"]);
    expect(effectiveVector(layer(), blocks)).toEqual({ BASE: 1, IN01: 1, OUT03: 0 });
    setRules(key, ["IN01-OUT03/ff"], 2);
    expect(Object.entries(effectiveVector(layer(), blocks)).at(-1)).toEqual(["OUT03/_", 0]);
    toggle(key, "muted", ["OUT03"]);
    toggle(key, "solo", ["BASE"]);
    expect(effectiveVector(layer(), blocks)).toMatchObject({ BASE: 1, IN01: 0, OUT03: 0, "IN01/_": 0, "OUT03/_": 0 });
  });
  it("stand together by block, in the order of the desk", () => {
    const vector = { "OUT03/ff": 1, "IN/attn": 0, "IN01/ff": 0.5, OUT03: 1, "OUT03/attn1": 0.2 };
    expect(ruleGroups(vector, blocks)).toEqual([
      { block: "IN01", rules: ["IN01/ff"] }, { block: "OUT03", rules: ["OUT03/ff", "OUT03/attn1"] }, { block: "IN", rules: ["IN/attn"] },
    ]);
  });
});
