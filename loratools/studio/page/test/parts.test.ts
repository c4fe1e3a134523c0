import { describe, expect, it } from "vitest";
import { differ, heatColor } from "../src/blocks/heat";
import { proposed } from "../src/blocks/save_dialog";
import { sizesFor } from "../src/blocks/scenes";
import { nearest } from "../src/epochs/chart";
import { range, smooth, thinned, ticks } from "../src/epochs/curve";
import { cellIn, lined } from "../src/epochs/grid_view";
import { tabled } from "../src/epochs/samples";
import { moved, span } from "../src/epochs/window";
import { clock } from "../src/queue/job_line";
import { ordered } from "../src/queue/page";
import { parseRoute, tokenIn } from "../src/state/route";
import { dragged, keyed, partOf } from "../src/ui/fader";
import type { GridDetail, Job } from "../src/api/types";

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
  it("says times", () => expect([clock(5), clock(75), clock(3700), clock(-1)]).toEqual(["0:05", "1:15", "1:01:40", "0:00"]));
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
