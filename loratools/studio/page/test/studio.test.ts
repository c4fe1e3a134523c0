import { afterEach, describe, expect, it, vi } from "vitest";
import type { BaseInfo, Job, Lora, Run, State, Term } from "../src/api/types";
import { baseFor, saved, useEpoch, useLora, written } from "../src/state/choose";
import { takeStack } from "../src/blocks/symptoms";
import { addLayer, change, desk, EMPTY, newLayer, removeLayer, reset } from "../src/state/stack";
import { bases, details, jobs, loadDetail, loadJobs, loadRuns, onEvent, runs, server } from "../src/state/studio";
import { settle } from "./wire";

const job = (id: string, state: string): Job => ({ id, state }) as Job;
const told = (own: Job, more: object = {}): void => onEvent({ type: "event", id: 1, event: "job", data: { ...own, ...more } } as never);

/** Answers of the server, each given when a test says so. */
function answers(): ((value: unknown) => void)[] {
  const waiting: ((value: unknown) => void)[] = [];
  vi.stubGlobal("document", { baseURI: "http://127.0.0.1/" });
  vi.stubGlobal("fetch", () => new Promise(done => {
    waiting.push(value => done(new Response(JSON.stringify(value), { headers: { "content-type": "application/json" } })));
  }));
  return waiting;
}

afterEach(() => {
  vi.unstubAllGlobals();
  jobs.value = [];
  runs.value = null;
});

describe("the list of jobs", () => {
  it("keeps what events told while it was asked for", async () => {
    const waiting = answers();
    jobs.value = [job("a", "running"), job("b", "running"), job("c", "running")];
    const asked = loadJobs();
    told(job("a", "failed"));
    told(job("b", "done"), { removed: true });
    told(job("d", "waiting"));
    waiting[0]?.([job("a", "running"), job("b", "running"), job("c", "done")]);
    await asked;
    expect(jobs.value.map(own => `${own.id} ${own.state}`)).toEqual(["a failed", "c done", "d waiting"]);
  });

  it("is the server's where nothing was told meanwhile", async () => {
    const waiting = answers();
    told(job("a", "running"));
    const asked = loadJobs();
    waiting[0]?.([job("a", "done")]);
    await asked;
    expect(jobs.value).toEqual([job("a", "done")]);
  });
});

it("an answer that a later one overtook is not shown", async () => {
  const waiting = answers();
  const [first, second] = [loadRuns(), loadRuns()];
  const named = (name: string): Run[] => [{ id: name } as Run];
  waiting[1]?.(named("new"));
  await second;
  waiting[0]?.(named("old"));
  await first;
  expect(runs.value).toEqual(named("new"));
});

it("an older list of jobs does not take the place of a newer one", async () => {
  const waiting = answers();
  const [first, second] = [loadJobs(), loadJobs()];
  waiting[1]?.([job("a", "paused")]);
  await second;
  waiting[0]?.([job("a", "running")]);
  await first;
  expect(jobs.value).toEqual([job("a", "paused")]);
});

describe("what is known of a LoRA", () => {
  const detail = (share: number | null): object => ({ id: "ink", scheme: { family: "sd1", blocks: [{ name: "IN01", norm_share: share }] } });
  const share = (): unknown => details.value.get("ink")?.scheme.blocks[0]?.norm_share;
  it.each(["norms", "file"])("is asked for anew where %s is told while it is asked for", async event => {
    details.value = new Map();
    const waiting = answers();
    const asked = loadDetail("ink");
    onEvent({ type: "event", id: 1, event, data: { ids: ["ink"] } } as never);
    expect(waiting).toHaveLength(1);
    waiting[0]?.(detail(null)); // made before the event
    await settle();
    expect(waiting).toHaveLength(2);
    waiting[1]?.(detail(0.4));
    await asked;
    expect(share()).toBe(0.4);
  });
});

it("a base model that is put into an opened folder is offered without a reload", async () => {
  const waiting = answers();
  server.value = { bases: [] } as unknown as State;
  onEvent({ type: "event", id: 1, event: "file", data: { ids: ["x"] } } as never);
  await vi.waitFor(() => expect(waiting).toHaveLength(6));
  waiting.forEach((answer, n) => answer(n === 0 ? { bases: [{ id: "x" }] } : []));
  await settle();
  expect(bases.value).toEqual([{ id: "x" }]);
});

describe("the base of a LoRA", () => {
  const base = (id: string, name: string, family = "sd1"): BaseInfo => ({ id, name, family, size: [512, 512] });
  const lora = (id: string, run: string | null = null): Lora => ({ id, name: id, family: "sd1", run, epoch: null, root: "", path: id }) as Lora;
  const run = (of: string): Run => ({ id: "run", name: "run", base: of, epochs: [{ number: 1, lora: "ink" }] }) as unknown as Run;
  const open = (...list: BaseInfo[]): void => {
    server.value = { bases: list, roots: [], prompts: {} } as unknown as State;
    reset();
  };
  const pocket = base("pocket", "pocket");
  it("is what its run names, by name or path, and never the packaged one for another", () => {
    open(pocket, base("1", "other"), base("2", "sd15"));
    expect(["pocket", "sd15", "/models/sd15.safetensors", "C:\\models\\sd15.safetensors"].map(own => baseFor("sd1", own)?.id)).toEqual(["pocket", "2", "2", "2"]);
    expect(baseFor("sd1", "/gone/x.safetensors")?.id).toBe("1");
    expect(baseFor("sd1")?.id).toBe("1");
    open(pocket);
    expect([baseFor("sd1")?.id, baseFor("sd1", "/gone/x.safetensors")]).toEqual(["pocket", undefined]);
  });
  it("that a person chose stays where it fits", async () => {
    answers();
    open(pocket, base("1", "other"), base("2", "sd15"));
    change({ ...desk.value, base: "2" });
    useEpoch(run("/gone/x.safetensors"), lora("ink", "run"));
    expect(desk.value.base).toBe("2");
    reset();
    runs.value = [run("pocket")];
    useLora(lora("ink", "run"));
    expect(desk.value.base).toBe("pocket");
  });
});

it("the desk is saved when its file is written, not when that is queued", () => {
  written.value = { desk: EMPTY, job: "w" };
  jobs.value = [job("w", "running")];
  expect(saved.value).toBeNull();
  jobs.value = [job("w", "failed")];
  expect(saved.value).toBeNull();
  jobs.value = [job("w", "done")];
  expect(saved.value).toBe(EMPTY);
});

it("the answer of a rule goes onto the layers that it was asked for, whatever was moved meanwhile", () => {
  reset();
  for (const id of ["a", "b", "c"]) addLayer(newLayer(id, id));
  const keys = desk.value.layers.map(layer => layer.key);
  removeLayer(keys[0]!);
  addLayer(newLayer("d", "d"));
  takeStack(["a", "b", "c"].map((lora, n) => ({ lora, weight: n + 1, vector: { IN01: n }, te: 1, unet: 1 }) as Term), keys, {});
  expect(desk.value.layers.map(layer => [layer.lora, layer.weight, layer.vector])).toEqual([["b", 2, { IN01: 1 }], ["c", 3, { IN01: 2 }], ["d", 1, {}]]);
});
