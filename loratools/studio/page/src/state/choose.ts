// Putting files into the stack: an epoch, a LoRA, what a search found.
import { batch, computed, signal } from "@preact/signals";
import type { BaseInfo, Lora, Run } from "../api/types";
import { firstScenes, keep, kept, memory, recallDesk, recallScenes, scenes, type KeptDesk } from "./live";
import { bases, blocksOf, details, gridOf, jobs, loadCatalog, loadDetail, loras, lorasById, runs, server } from "./studio";
import { addLayer, change, claimKeys, desk, newLayer, removeLayer, reset, selected, type Desk, type Layer } from "./stack";

/** What was written last, and the job that writes it; null where it was written at once. */
export const written = signal<{ desk: Desk; job: string | null } | null>(null);

/** The desk as it was when it was saved last; null until that is done. */
export const saved = computed<Desk | null>(() => {
  const last = written.value;
  const whole = last && (last.job === null || jobs.value.find(job => job.id === last.job)?.state === "done");
  return whole ? last.desk : null;
});

/** Where a file lies, as text: ids are new at every start of the server, this stays. */
export const placeOf = (lora: Lora): string => `${server.value?.roots.find(root => root.id === lora.root)?.name ?? ""}/${lora.path}`;

export const nameOf = (lora: Lora): string => (lora.epoch !== null && lora.run !== null ? epochName(lora) : lora.name);
const epochName = (lora: Lora): string => `${lora.name.replace(/-0*\d+$/, "")}@${lora.epoch}`;

const POCKET = "pocket";

/** The base that a run says it was trained on, by its id, its name, or the end of its path; undefined for another. */
function baseCalled(wanted: string): BaseInfo | undefined {
  const all = bases.peek();
  const name = wanted.split(/[\\/]/).at(-1)?.replace(/\.(safetensors|ckpt)$/i, "");
  return all.find(base => base.id === wanted || base.name === wanted)
    ?? all.find(base => base.id !== POCKET && base.name === name);
}

/**
 * The base for a LoRA: that which its run names, else one of its family. The packaged one is of the family sd1 and tiny:
 * it is for what was trained on it, and where there is no other and nothing says what that was.
 */
export function baseFor(family: string, wanted?: string | null): BaseInfo | undefined {
  const called = wanted ? baseCalled(wanted) : undefined;
  const own = bases.peek().filter(base => base.family === family);
  return called ?? own.find(base => base.id !== POCKET) ?? (wanted ? undefined : own[0]);
}

/** wanted: the base that comes in the place of one that fits as well. */
function prepare(lora: Lora, wanted?: string | null, run?: Run): void {
  const now = desk.peek();
  const fits = bases.peek().some(base => base.id === now.base && base.family === lora.family);
  const called = wanted ? baseCalled(wanted)?.id : undefined;
  const base = called ?? (fits ? now.base : (baseFor(lora.family, wanted)?.id ?? now.base));
  if (base !== now.base) change({ ...now, base });
  if (scenes.peek().length === 0) scenes.value = firstScenes(base, lora, run && gridOf(run));
  void loadDetail(lora.id);
  void loadCatalog(lora.family);
}

/** Add a LoRA on top; what comes after is compared with the stack as it is then. */
export function useLora(lora: Lora, weight = 1): void {
  batch(() => {
    const from = desk.peek().layers.length === 0 ? runs.peek()?.find(run => run.id === lora.run)?.base : null;
    prepare(lora, from);
    addLayer({ ...newLayer(lora.id, nameOf(lora), weight), place: placeOf(lora) });
    keep();
  });
}

/** An epoch takes the place of another one of its run and keeps that one's vector; else it is added. */
export function useEpoch(run: Run, lora: Lora): void {
  batch(() => {
    const ofRun = new Set(run.epochs.map(epoch => epoch.lora));
    const now = desk.peek();
    const at = now.layers.findIndex(layer => ofRun.has(layer.lora));
    prepare(lora, run.base, run);
    if (at < 0) {
      addLayer({ ...newLayer(lora.id, nameOf(lora)), place: placeOf(lora) });
    } else {
      const layers = desk.peek().layers.map((layer, n) =>
        n === at ? { ...layer, lora: lora.id, name: nameOf(lora), place: placeOf(lora) } : layer);
      change({ ...desk.peek(), layers });
      selected.value = at;
    }
    keep();
  });
}

export function setVector(layer: Layer, vector: Record<string, number>): void {
  const now = desk.peek();
  change({
    ...now,
    layers: now.layers.map(one => (one.key === layer.key ? { ...one, vector, muted: [], solo: [] } : one)),
  });
}

export function dropLayer(key: number): void {
  batch(() => {
    removeLayer(key);
    const there = new Set(desk.peek().layers.map(layer => layer.key));
    kept.value = { ...kept.peek(), layers: kept.peek().layers.filter(layer => there.has(layer.key)) };
  });
}

/** What an earlier visit left, with the ids of this start of the server; layers whose file is gone are left out. */
export function recallAll(): number {
  const left = recallDesk();
  scenes.value = recallScenes();
  if (!left) return 0;
  const byPlace = new Map((loras.peek() ?? []).map(lora => [placeOf(lora), lora]));
  const lost = new Set<string>();
  const again = (from: Desk): Desk => {
    const base = bases.peek().find(one => one.name === from.baseName) ?? baseFor("");
    const layers = from.layers.flatMap(layer => {
      const lora = byPlace.get(layer.place ?? "");
      if (!lora) lost.add(layer.place ?? layer.name);
      return lora ? [{ ...layer, lora: lora.id }] : [];
    });
    return { layers, base: base?.id ?? bases.peek()[0]?.id ?? "", baseName: base?.name };
  };
  try {
    restore(left, again);
  } catch {
    reset(); // written by another version of the page
  }
  return lost.size;
}

function restore(left: KeptDesk, again: (from: Desk) => Desk): void {
  reset(again(left.desk));
  kept.value = again(left.kept);
  const { a, b } = left.memory;
  memory.value = { a: a && again(a), b: b && again(b) };
  for (const other of [kept.peek(), memory.peek().a, memory.peek().b]) if (other) claimKeys(other);
  for (const layer of desk.peek().layers) {
    void loadDetail(layer.lora);
    const family = lorasById.peek().get(layer.lora)?.family;
    if (family) void loadCatalog(family);
  }
}

/** The blocks of a layer with their groups, in order. */
export function groupsOf(layer: Layer): { group: string; blocks: string[] }[] {
  const found: { group: string; blocks: string[] }[] = [];
  for (const block of details.value.get(layer.lora)?.scheme.blocks ?? []) {
    const last = found.at(-1);
    if (last?.group === block.group) last.blocks.push(block.name);
    else found.push({ group: block.group, blocks: [block.name] });
  }
  return found;
}

export const hasBlocks = (layer: Layer): boolean => blocksOf(layer.lora) !== null;
