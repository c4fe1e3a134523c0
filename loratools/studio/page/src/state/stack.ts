// The stack of LoRAs that the person works on, and its history. Values are replaced, never changed, so that an undo is
// to take an older one; one drag is one step back, however many values it went through.
import { batch, computed, signal } from "@preact/signals";
import type { Vector } from "../api/names";
import type { Stack } from "../api/types";
import { blockOfRule, isRule } from "./rules";

export interface Layer {
  /** Tells layers of one LoRA apart. */
  key: number;
  lora: string;
  /** For the person: "ink@6". */
  name: string;
  /** Where the file lies, as text: what finds it again when the server gives it another id. */
  place: string;
  weight: number;
  te: number;
  unet: number;
  vector: Vector;
  muted: readonly string[];
  solo: readonly string[];
}

export interface Desk {
  layers: readonly Layer[];
  base: string;
  /** What finds the base again when the server gives it another id. */
  baseName?: string;
  /** How many steps of each symptom's rule have been made; undo takes them back with the rest. */
  turns?: Record<string, number>;
}

export const EMPTY: Desk = { layers: [], base: "" };
export const MOST_STEPS = 200;

export const desk = signal<Desk>(EMPTY);
export const selected = signal(0);
const past = signal<readonly Desk[]>([]);
const future = signal<readonly Desk[]>([]);
export const canUndo = computed(() => past.value.length > 0);
export const canRedo = computed(() => future.value.length > 0);
let before: Desk | null = null; // where a drag began

/** What every later change belongs to, until commit: one step of undo. */
export function begin(): void {
  before ??= desk.peek();
}

export function commit(): void {
  const from = before;
  before = null;
  if (from && from !== desk.peek()) push(from);
}

export const dragging = (): boolean => before !== null;

function push(from: Desk): void {
  past.value = [...past.peek(), from].slice(-MOST_STEPS);
  future.value = [];
}

export function change(next: Desk): void {
  const now = desk.peek();
  if (next === now) return;
  if (before === null) push(now);
  put(next);
}

/** Another desk takes the place of what is there; the selected layer stays so wherever it stands now, else its place. */
function put(next: Desk): void {
  const held = desk.peek().layers[selected.peek()]?.key;
  const at = next.layers.findIndex(layer => layer.key === held);
  batch(() => {
    desk.value = next;
    selected.value = at >= 0 ? at : Math.max(0, Math.min(selected.peek(), next.layers.length - 1));
  });
}

export function undo(): void {
  commit();
  const steps = past.peek();
  const last = steps.at(-1);
  if (!last) return;
  past.value = steps.slice(0, -1);
  future.value = [desk.peek(), ...future.peek()];
  put(last);
}

export function redo(): void {
  commit();
  const [next, ...rest] = future.peek();
  if (!next) return;
  past.value = [...past.peek(), desk.peek()];
  future.value = rest;
  put(next);
}

/** Begin anew, with no way back: what an earlier visit left, or a test. */
export function reset(to: Desk = EMPTY): void {
  before = null;
  past.value = [];
  future.value = [];
  desk.value = to;
  selected.value = 0;
  claimKeys(to);
}

let keys = 0;
export const nextKey = (): number => {
  claimKeys(desk.peek());
  return ++keys;
};

/** New layers get other keys than these, which an earlier visit gave. */
export function claimKeys({ layers }: Desk): void {
  for (const layer of layers) keys = Math.max(keys, layer.key);
}

export function newLayer(lora: string, name: string, weight = 1): Layer {
  return { key: nextKey(), lora, name, place: "", weight, te: 1, unet: 1, vector: {}, muted: [], solo: [] };
}

export function addLayer(layer: Layer): void {
  const now = desk.peek();
  change({ ...now, layers: [...now.layers, layer] });
  selected.value = now.layers.length;
}

export function removeLayer(key: number): void {
  const now = desk.peek();
  change({ ...now, layers: now.layers.filter(layer => layer.key !== key) });
}

export function moveLayer(key: number, by: -1 | 1): void {
  const now = desk.peek();
  const from = now.layers.findIndex(layer => layer.key === key);
  const to = from + by;
  const layer = now.layers[from];
  if (!layer || to < 0 || to >= now.layers.length) return;
  const layers = now.layers.filter((_, n) => n !== from);
  layers.splice(to, 0, layer);
  change({ ...now, layers });
}

export function editLayer(key: number, fields: Partial<Omit<Layer, "key">>): void {
  const now = desk.peek();
  change({ ...now, layers: now.layers.map(layer => (layer.key === key ? { ...layer, ...fields } : layer)) });
}

export const weightOf = (layer: Layer, block: string): number => layer.vector[block] ?? 1;

/** A block's number. Kinds of its layers that have a weight of their own move with it, and keep their distance. */
export function setWeight(key: number, block: string, value: number): void {
  const layer = desk.peek().layers.find(one => one.key === key);
  if (!layer || weightOf(layer, block) === value) return;
  const rules = rulesMoved(layer.vector, [block], value - weightOf(layer, block));
  editLayer(key, { vector: { ...layer.vector, ...rules, [block]: value } });
}

function rulesMoved(vector: Vector, blocks: readonly string[], by: number): Vector {
  const own = Object.entries(vector).filter(([name]) => isRule(name) && blocks.includes(blockOfRule(name)));
  return Object.fromEntries(own.map(([rule, weight]) => [rule, rounded(weight + by, 0.0001)]));
}

/** Give rules a weight, or none: then the block's own number holds for those layers again. */
export function setRules(key: number, rules: readonly string[], value: number | null): void {
  const layer = desk.peek().layers.find(one => one.key === key);
  if (!layer) return;
  const vector = { ...layer.vector };
  for (const rule of rules) {
    if (value === null) delete vector[rule];
    else vector[rule] = value;
  }
  editLayer(key, { vector });
}

/** Move several blocks by the same amount, as a group's fader does. */
export function shiftWeights(key: number, from: Vector, blocks: readonly string[], by: number): void {
  const layer = desk.peek().layers.find(one => one.key === key);
  if (!layer) return;
  const vector = { ...layer.vector, ...rulesMoved(layer.vector, blocks, by) };
  for (const block of blocks) vector[block] = rounded((from[block] ?? 1) + by, 0.0001);
  editLayer(key, { vector });
}

export function toggle(key: number, what: "muted" | "solo", blocks: readonly string[]): void {
  const layer = desk.peek().layers.find(one => one.key === key);
  if (!layer) return;
  const all = blocks.every(block => layer[what].includes(block));
  const others = layer[what].filter(block => !blocks.includes(block));
  editLayer(key, { [what]: all ? others : [...others, ...blocks] });
}

export const rounded = (value: number, step = 0.01): number => {
  const whole = Math.round(value / step);
  return whole === 0 ? 0 : Number((whole * step).toFixed(4)); // no -0, and 0.1 + 0.2 is 0.3
};

/** What a block counts with: nothing when it is muted, or when others are solo. */
export const effective = (layer: Layer, block: string): number => (isSilent(layer, block) ? 0 : weightOf(layer, block));

/** Whether a block is silent: muted, or not among those that are solo. */
const isSilent = (layer: Layer, block: string): boolean =>
  layer.muted.includes(block) || (layer.solo.length > 0 && !layer.solo.includes(block));

/**
 * A layer's vector with mute and solo in it: the weight of each block, and after them the rules. A rule goes before its
 * blocks' weights, so that one of a silent block is left out; where a rule is about several blocks, another one after it
 * silences those that are to be silent ("_" is part of every layer's name).
 */
export function effectiveVector(layer: Layer, blocks: readonly string[]): Vector {
  const vector: Vector = {};
  for (const block of blocks) vector[block] = effective(layer, block);
  const silent = blocks.filter(block => isSilent(layer, block));
  const rules = Object.keys(layer.vector).filter(name => isRule(name) && !silent.includes(blockOfRule(name)));
  for (const rule of rules) vector[rule] = layer.vector[rule]!;
  if (rules.some(rule => !blocks.includes(blockOfRule(rule)))) for (const block of silent) vector[`${block}/_`] = 0;
  return vector;
}

/** The stack as the server takes it. blocksOf gives a LoRA's block names, or null while they are not known. */
export function toStack(from: Desk, blocksOf: (lora: string) => readonly string[] | null): Stack {
  return {
    base: from.base,
    terms: from.layers.map(layer => {
      const blocks = blocksOf(layer.lora) ?? Object.keys(layer.vector).filter(name => !isRule(name));
      const vector = effectiveVector(layer, blocks);
      const plain = Object.values(vector).every(weight => weight === 1);
      return { lora: layer.lora, weight: layer.weight, vector: plain ? null : vector, te: layer.te, unet: layer.unet };
    }),
  };
}

/** Whether a layer is as a file comes: every block 1, nothing muted. */
export const untouched = (layer: Layer): boolean =>
  layer.muted.length === 0 && layer.solo.length === 0 && Object.values(layer.vector).every(value => value === 1);
