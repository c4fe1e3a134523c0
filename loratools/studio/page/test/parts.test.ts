import { describe, expect, it, vi } from "vitest";
import { differ, heatColor } from "../src/blocks/heat";
import { proposed } from "../src/blocks/save_dialog";
import { sizesFor } from "../src/blocks/scenes";
import { nearest } from "../src/epochs/chart";
import { range, smooth, thinned, ticks } from "../src/epochs/curve";
import { cellIn, lined, starred } from "../src/epochs/grid_view";
import { drawingOf, tabled } from "../src/epochs/samples";
import { moved, span, tabStop } from "../src/epochs/window";
import { clock, noted } from "../src/queue/job_line";
import { ordered } from "../src/queue/page";
import { follow, parseRoute, route, tokenIn } from "../src/state/route";
import { bounded, numberIn } from "../src/ui/draft";
import { dragged, keyed, partOf } from "../src/ui/fader";
import { keyOf } from "../src/ui/keys";
import type { GridCell, GridDetail, Job } from "../src/api/types";

describe("a fader", () => {
  it("moves by its length, a fifth of that with shift, and never past its ends", () => {
    expect(dragged(1, -0.25, false, -0.5, 1.5)).toBe(0.5);
    expect(dragged(1, -0.25, true, -0.5, 1.5)).toBe(0.9);
    expect(dragged(1, 5, false, -0.5, 1.5)).toBe(1.5);
  });
  it("takes keys", () => {
    expect(keyed("ArrowUp", false, 0.95, -0.5, 1.5)).toBe(1);
    expect(keyed("ArrowDown", true, 0, -0.5, 1.5)).toBe(-0.01);
    expect(keyed("PageUp", false, 1.4, -0.5, 1.5)).toBe(1.5);
    expect([keyed("0", false, 1, 0, 1), keyed("Home", false, 1, -0.5, 1), keyed("q", false, 1, 0, 1)]).toEqual([0, -0.5, null]);
  });
  it("knows where a value lies", () => expect([partOf(-1, -0.5, 1.5), partOf(0.5, -0.5, 1.5), partOf(9, -0.5, 1.5)]).toEqual([0, 0.5, 1]));
});

describe("routes", () => {
  it("are pages; what else stands in the fragment is a token", () => {
    expect(parseRoute("#/epochs/a%2Fb")).toEqual({ page: "epochs", rest: "a/b" });
    const reload = vi.fn();
    let changed = (): void => undefined;
    vi.stubGlobal("addEventListener", (_: string, run: () => void) => (changed = run));
    follow();
    vi.stubGlobal("location", { hash: "#/queue", reload });
    changed();
    expect([route.value.page, reload.mock.calls.length]).toEqual(["queue", 0]);
    vi.stubGlobal("location", { hash: `#${"x".repeat(43)}`, reload }); // pasted into the tab of a server that ended
    changed();
    expect([route.value.page, reload.mock.calls.length]).toEqual(["queue", 1]);
    vi.unstubAllGlobals();
    expect(parseRoute("#/queue/50%zz")).toEqual({ page: "queue", rest: "50%zz" }); // written by hand
    expect([parseRoute("#/nowhere"), parseRoute(""), parseRoute("#abc")]).toEqual([null, null, null]);
    expect(tokenIn(`#${"x".repeat(43)}`)).toBe("x".repeat(43));
    expect([tokenIn("#/blocks"), tokenIn(""), tokenIn("#main")]).toEqual([null, null, null]);
  });
});

describe("the table of pictures", () => {
  it("holds what is in sight and a little more", () => {
    expect(span(0, 700, 100, 1000)).toEqual({ from: 0, to: 9 });
    expect(span(50_000, 700, 100, 1000)).toEqual({ from: 498, to: 509 });
    expect(span(1e9, 700, 100, 10)).toEqual({ from: 10, to: 10 });
    expect(span(0, 700, 100, 0)).toEqual({ from: 0, to: 0 });
  });
  it("is walked by arrows over empty places", () => {
    const has = (row: number, column: number): boolean => !(row === 0 && column === 1);
    expect(moved("ArrowRight", 0, 0, 3, 3, has)).toEqual([0, 2]);
    expect(moved("ArrowRight", 0, 2, 3, 3, has)).toEqual([0, 2]);
    expect(moved("PageDown", 0, 0, 3, 3, has)).toEqual([2, 0]);
    expect([moved("End", 1, 0, 3, 3, has), moved("x", 0, 0, 3, 3, has)]).toEqual([[1, 2], null]);
  });
  it("lists a grid's rows for each prompt and seed that is shown", () => {
    const cell = { row: 1, epoch: 2, weight: 0.5, prompt: 0, seed: 3, picture: "p", key: "k", stars: 0 };
    const grid = { rows: ["a", "b"], weights: [0, 0.5], prompts: ["x", "y"], seeds: [3, 4] } as unknown as GridDetail["grid"];
    const detail = { grid, cells: [cell], standings: [], pair: null, pairs_seen: 0 };
    const few = lined(detail, 0, null);
    expect(few.rows.map(({ row }) => row)).toEqual([0, 1]);
    expect(few.columns.map(({ weight, shot }) => [weight, ...shot!])).toEqual([[0, 0, 3], [0.5, 0, 3], [0, 0, 4], [0.5, 0, 4]]);
    expect([cellIn(few, 1, 1), cellIn(few, 0, 1)]).toEqual([cell, undefined]);
    const many = lined({ ...detail, grid: { ...grid, weights: [0, 0.5, 1] } }, 0, null);
    expect(many.rows.map(({ row, shot }) => [row, ...shot!])).toEqual([[0, 0, 3], [1, 0, 3], [0, 0, 4], [1, 0, 4]]);
    expect([cellIn(many, 1, 1), many.columns.length]).toEqual([cell, 3]);
  });
  it("is reached by the Tab key wherever it was scrolled to, and where its first cell is empty", () => {
    const has = (row: number, column: number): boolean => row > 0 || column > 1;
    expect(tabStop([5, 2], [4, 5], [1, 2], has)).toEqual([5, 2]);
    expect(tabStop([0, 0], [4, 5], [1, 2], has)).toEqual([4, 1]);
    expect(tabStop([0, 0], [0, 1], [0, 1, 2], has)).toEqual([0, 2]);
    expect(tabStop([0, 0], [], [], has)).toBeNull();
  });
  it("keeps the stars of all cells that are marked one after another", () => {
    const cell = (key: string): GridCell => ({ row: 0, epoch: 1, weight: 1, prompt: 0, seed: 1, picture: key, key, stars: 0 });
    const detail = { cells: [cell("a"), cell("b")] } as unknown as GridDetail;
    expect(starred(starred(detail, "a", 3), "b", 5).cells.map(one => one.stars)).toEqual([3, 5]);
  });
  it("shows the last sample of an epoch and prompt", () => {
    const one = (epoch: number, step: number, picture: string) => ({ epoch, step, prompt: "p", picture });
    const { epochs, at } = tabled([one(2, 9, "late"), one(2, 5, "soon"), one(0, 0, "base")]);
    expect(epochs).toEqual([0, 2]);
    expect(at.get("2 p")!.picture).toBe("late");
  });
});

describe("curves", () => {
  it("are smoothed without a shift", () => {
    const bump = Array.from({ length: 101 }, (_, n): [number, number] => [n, n === 50 ? 1 : 0]);
    const values = smooth(bump, 0.8).map(([, value]) => value);
    expect(values.indexOf(Math.max(...values))).toBe(50);
    expect(values[48]).toBeCloseTo(values[52]!, 3);
    expect(smooth([[0, 2], [1, 2]], 0.97).map(([, value]) => value)).toEqual([2, 2]);
  });
  it("are not ruled by outliers", () => {
    const values = [...Array.from({ length: 500 }, (_, n) => 0.1 + n / 5000), 40];
    expect(range(values)[1]).toBeLessThan(0.3);
    expect(range([])).toEqual([0, 1]);
    expect(range([3])[0]).toBeLessThan(3);
  });
  it("have round ticks, and keep their spikes when there are too many points", () => {
    expect(ticks(0, 1, 4)).toEqual([0, 0.5, 1]);
    expect(ticks(0.08, 0.12, 4)).toEqual([0.08, 0.09, 0.1, 0.11, 0.12]);
    const many = Array.from({ length: 10_000 }, (_, n): [number, number] => [n, n === 7777 ? 9 : 0]);
    const few = thinned(many, 300);
    expect(few.length).toBeLessThan(320);
    expect(few.some(([, value]) => value === 9)).toBe(true);
    expect(nearest(many, 4.6)).toEqual([5, 0]);
  });
});

describe("the queue", () => {
  const job = (id: string, state: Job["state"], position: number, ended = 0): Job => ({ id, state, position, ended, created: 0 }) as unknown as Job;
  it("shows what runs, what waits in its order, and what is over, newest first", () => {
    const all = [job("old", "done", 0, 1), job("b", "waiting", 2), job("a", "waiting", 1), job("new", "failed", 0, 2), job("run", "running", 0)];
    expect(ordered(all).map(one => one.id)).toEqual(["run", "a", "b", "new", "old"]);
  });
  it("says what a bar is at, in words without holes", () => {
    expect(["epoch 1/4", "epoch 2", "search 3", "whatever"].map(noted)).toEqual(["epoch 1 of 4", "epoch 2", "searching", "whatever"]);
  });
  it("knows whose grid is drawn", () => {
    const grid = (name: string, state: string): Job => ({ kind: "grid", state, says: { key: "job.title.grid", values: { name }, text: "" } }) as unknown as Job;
    expect(drawingOf("ink-grid", [grid("face-grid", "running"), grid("ink-grid", "done")])).toBeUndefined();
    expect(drawingOf("ink-grid", [grid("face-grid", "running"), grid("ink-grid", "waiting")])?.state).toBe("waiting");
  });
  it("says times", () => expect([clock(5), clock(75), clock(3700), clock(-1)]).toEqual(["0:05", "1:15", "1:01:40", "0:00"]));
});

describe("what is typed", () => {
  it("is a number with a point, a comma or a long minus, and nothing else", () => {
    expect(["0.5", " 7,5 ", "\u22121", "1e-4", "", "abc", "1,234.5", "Infinity", "NaN"].map(numberIn)).toEqual([0.5, 7.5, -1, 1e-4, null, null, null, null, null]);
  });
  it("keeps its digits, within bounds", () => {
    expect(bounded(0.125, -5, 5, 0.0001)).toBe(0.125);
    expect(bounded(-0.35, -5, 5, 0.0001)).toBe(-0.35);
    expect([bounded(99, -5, 5, 0.0001), bounded(0, 1, 200, 1), bounded(3.7, 1, 200, 1)]).toEqual([5, 1, 4]);
    expect(bounded(4_294_967_295, 0, Number.MAX_SAFE_INTEGER, 1)).toBe(4_294_967_295); // a seed as other programs make them
  });
  it("is the same key on a keyboard of another alphabet", () => {
    expect(keyOf({ key: "я", code: "KeyZ" })).toBe("z");
    expect(keyOf({ key: "Z", code: "KeyZ" })).toBe("z");
    expect(keyOf({ key: "y", code: "KeyZ" })).toBe("y"); // German: the letter counts, not the place
    expect([keyOf({ key: "ArrowUp", code: "ArrowUp" }), keyOf({ key: "5", code: "Digit5" })]).toEqual(["ArrowUp", "5"]);
  });
});

describe("small parts", () => {
  it("heat is black where nothing differs and never darker for more", () => {
    expect([heatColor(0), heatColor(1)]).toEqual([[0, 0, 0], [255, 255, 255]]);
    const data = new Uint8ClampedArray([10, 10, 10, 255, 200, 10, 10, 255]);
    differ(data, new Uint8ClampedArray([10, 10, 10, 255, 10, 10, 10, 255]));
    expect([...data]).toEqual([0, 0, 0, 255, 255, 255, 255, 255]);
  });
  it("a file's name is one for every disk", () => {
    expect(proposed(["ink@6", "base"])).toBe("ink_6_weighed");
    expect(proposed(["墨 / ../x"])).toBe("墨_x_weighed");
    expect(proposed([])).toBe("my_style_weighed");
  });
  it("sizes are of about the base's pixels", () => {
    expect(sizesFor([512, 512])).toEqual([[512, 512], [448, 640], [640, 448]]);
    expect(sizesFor(undefined)).toEqual([]);
  });
});

describe("the first scene", () => {
  it("shows a whole figure, of the base's own prompts, after the trigger word", async () => {
    const { firstScenes } = await import("../src/state/live");
    const { server } = await import("../src/state/studio");
    const prompts = { sd1: ["a cat"], pocket: ["face_focus, 1girl", "full_body, 1girl"] };
    server.value = { prompts } as unknown as typeof server.value;
    expect(firstScenes("pocket", { family: "sd1", trigger: "ink" })[0]!.prompt).toBe("ink, full_body, 1girl");
    expect(firstScenes("xyz", { family: "sd1", trigger: null })[0]!.prompt).toBe("a cat");
    expect(firstScenes("xyz", { family: "flux", trigger: null })[0]!.prompt).toBe("");
  });
});
