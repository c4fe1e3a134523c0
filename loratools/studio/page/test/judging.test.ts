import { describe, expect, it } from "vitest";
import { judging } from "../src/epochs/page";
import { isOpen } from "../src/queue/job_line";
import type { Job, Run } from "../src/api/types";

const run = { id: "r1" } as Run;
const job = (id: string, created: number, more: Partial<Job> = {}): Job =>
  ({ id, kind: "epochs", created, state: "done", results: ["v", "r1"], ...more }) as Job;

describe("the job that judges a run's epochs", () => {
  it("is the newest one, whoever queued it", () => {
    const all = [job("a", 1), job("b", 3, { state: "waiting" }), job("c", 2)];
    expect(judging(run, all)?.id).toBe("b");
  });
  it("is none of another run, and no training of this one", () => {
    expect(judging(run, [job("a", 1, { results: ["r2"] }), job("b", 2, { kind: "train" })])).toBeUndefined();
  });
  it("is open until it is over", () => {
    const states = ["waiting", "running", "stopping", "paused", "done", "failed", "stopped"] as const;
    expect(states.filter(state => isOpen(job("a", 1, { state })))).toEqual(["waiting", "running", "stopping", "paused"]);
  });
});
