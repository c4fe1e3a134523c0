import { describe, expect, it, vi } from "vitest";
import { asking, inTurn, oneAtATime } from "../src/api/asking";
import { settle } from "./wire";

/** Something to wait for that a test ends. */
function gate<T>(): { promise: Promise<T>; open: (value: T) => void; refuse: (thrown: unknown) => void } {
  let [open, refuse]: [(value: T) => void, (thrown: unknown) => void] = [() => undefined, () => undefined];
  const promise = new Promise<T>((done, failed) => ([open, refuse] = [done, failed]));
  return { promise, open, refuse };
}

describe("a question that was taken back", () => {
  it("has no answer and no failure, however late they come", async () => {
    const [first, second, third] = [gate<string>(), gate<string>(), gate<string>()];
    const got: unknown[] = [];
    const take = (one: unknown): void => void got.push(one);
    asking(() => first.promise, take, take)(); // the effect of one value, ended by that of the next
    asking(() => second.promise, take, take)();
    asking(() => third.promise, take, take);
    third.open("new");
    await settle();
    first.open("old");
    second.refuse("fault");
    await settle();
    expect(got).toEqual(["new"]);
  });
  it("is not even asked where it rested for too short a time", () => {
    vi.useFakeTimers();
    const asked = vi.fn(() => Promise.resolve(1));
    const take = vi.fn();
    const end = asking(asked, take, take, 300);
    vi.advanceTimersByTime(200);
    end();
    vi.advanceTimersByTime(500);
    expect(asked).not.toHaveBeenCalled();
    asking(asked, take, take, 300);
    vi.advanceTimersByTime(300);
    expect(asked).toHaveBeenCalledOnce();
    vi.useRealTimers();
  });
});

it("what is asked for while it runs makes it run once more", async () => {
  const gates = [gate<void>(), gate<void>()];
  let runs = 0;
  const read = oneAtATime(() => gates[runs++]!.promise);
  const all = [read(), read(), read()]; // lines of a log that come while lines are read
  expect(runs).toBe(1);
  gates[0]!.open();
  await settle();
  expect(runs).toBe(2);
  gates[1]!.open();
  await Promise.all(all);
  expect(runs).toBe(2);
});

it("changes are made one after another, also after one that failed", async () => {
  const [first, said] = [gate<void>(), [] as number[]];
  const one = inTurn(() => first.promise);
  const two = inTurn(async () => void said.push(2));
  await settle();
  expect(said).toEqual([]);
  first.refuse("disk full");
  await expect(one).rejects.toBe("disk full");
  await two;
  expect(said).toEqual([2]);
});
