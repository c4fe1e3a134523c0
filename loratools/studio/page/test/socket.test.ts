import { describe, expect, it } from "vitest";
import { parseFrame } from "../src/api/frame";
import { frameBytes, harness, settle } from "./wire";

describe("a frame", () => {
  it("has a header of sixteen bytes, little endian", () => {
    const frame = parseFrame(frameBytes(258, 65537, 3, 1));
    expect(frame).toMatchObject({ mime: "image/jpeg", preview: true, cached: true, stream: 258, seq: 65537, width: 64, height: 48 });
    expect([...frame.picture]).toEqual([1, 2, 3]);
    expect(parseFrame(frameBytes(0, 0, 0, 3))).toMatchObject({ mime: "image/webp", preview: false, cached: false });
  });
  it.each([
    ["short", () => new ArrayBuffer(9), "no header"],
    ["of an unknown kind", () => frameBytes(1, 1, 0, 9), "kind 9"],
    ["cut", () => frameBytes(1, 1).slice(0, 17), "says 3 bytes and brings 1"],
  ])("that is %s is refused", (_, make, words) => expect(() => parseFrame(make())).toThrow(words));
});

describe("drawing", () => {
  it("sends the newest value only, when the one before has been answered", async () => {
    const { socket, wires, draw } = harness();
    socket.start();
    wires[0]!.open();
    for (let value = 0; value < 50; value++) draw(2, value);
    expect(wires[0]!.draws()).toMatchObject([{ seq: 1, value: 0 }]);
    wires[0]!.onmessage!({ data: frameBytes(2, 1) });
    await settle();
    expect(wires[0]!.draws()).toMatchObject([{ seq: 1, value: 0 }, { seq: 2, value: 49 }]);
  });
  it("keeps streams apart", () => {
    const { socket, wires, draw } = harness();
    socket.start();
    wires[0]!.open();
    draw(2, 1);
    draw(10, 2);
    expect(wires[0]!.draws().map(one => one.stream)).toEqual([2, 10]);
  });
  it("sends the last few-step value at once when the hand rests, and the whole one after its answer", async () => {
    const { socket, wires, draw } = harness();
    socket.start();
    wires[0]!.open();
    draw(2, 1);
    draw(2, 2);
    draw(2, 2, "rest");
    expect(wires[0]!.draws()).toMatchObject([{ value: 1, quality: "drag" }, { value: 2, quality: "drag" }]);
    wires[0]!.onmessage!({ data: frameBytes(2, 2, 1) });
    await settle();
    expect(wires[0]!.draws().at(-1)).toMatchObject({ seq: 3, value: 2, quality: "rest" });
    draw(2, 3); // the hand goes on: at once, it replaces the whole picture that is being drawn
    expect(wires[0]!.draws().at(-1)).toMatchObject({ seq: 4, value: 3, quality: "drag" });
  });
  it("a new drag takes back the whole picture that waits", async () => {
    const { socket, wires, draw } = harness();
    socket.start();
    wires[0]!.open();
    draw(2, 1);
    draw(2, 1, "rest");
    draw(2, 5);
    wires[0]!.onmessage!({ data: frameBytes(2, 1, 1) });
    await settle();
    wires[0]!.onmessage!({ data: frameBytes(2, 2, 1) });
    await settle();
    expect(wires[0]!.draws()).toMatchObject([{ value: 1 }, { value: 5, quality: "drag" }]);
  });
  it("goes on after a failure", () => {
    const { socket, wires, draw, messages } = harness();
    socket.start();
    wires[0]!.open();
    draw(2, 1);
    draw(2, 2);
    wires[0]!.say({ type: "failed", stream: 2, seq: 1, error: "out of memory", remedy: "smaller" });
    expect(messages).toHaveLength(1);
    expect(wires[0]!.draws().at(-1)).toMatchObject({ seq: 2, value: 2 });
  });
  it("an answer to an older seq does not let a second one go", async () => {
    const { socket, wires, draw } = harness();
    socket.start();
    wires[0]!.open();
    draw(2, 1, "rest");
    draw(2, 2); // seq 2 replaces it
    draw(2, 3);
    wires[0]!.onmessage!({ data: frameBytes(2, 1) });
    await settle();
    expect(wires[0]!.draws()).toHaveLength(2);
  });
});

describe("frames", () => {
  it("are acknowledged when they are on the screen, each once", async () => {
    const { socket, wires, gates, held } = harness();
    held.on = true;
    socket.start();
    wires[0]!.open();
    wires[0]!.onmessage!({ data: frameBytes(2, 1) });
    await settle();
    expect(wires[0]!.acks()).toEqual([]);
    gates[0]!();
    await settle();
    expect(wires[0]!.acks()).toEqual([[2, 1]]);
  });
  it("older than what is shown are dropped, and acknowledged all the same", async () => {
    const { socket, wires, shown } = harness();
    socket.start();
    wires[0]!.open();
    for (const seq of [3, 2, 4, 1]) wires[0]!.onmessage!({ data: frameBytes(2, seq) });
    wires[0]!.onmessage!({ data: frameBytes(3, 1) });
    await settle();
    expect(shown.map(frame => [frame.stream, frame.seq])).toEqual([[2, 3], [2, 4], [3, 1]]);
    expect(wires[0]!.acks()).toHaveLength(5);
    expect(socket.outdated(2, 3)).toBe(true);
  });
  it("that are damaged become a note", () => {
    const { socket, wires, messages } = harness();
    socket.start();
    wires[0]!.open();
    wires[0]!.onmessage!({ data: new ArrayBuffer(3) });
    expect(messages).toMatchObject([{ type: "note" }]);
  });
});

describe("the connection", () => {
  const event = (id: number) => ({ type: "event", id, event: "file", data: {} });
  it("resumes after the last event and hands each on once, in order", () => {
    const { socket, wires, timers, events } = harness();
    socket.start(7);
    wires[0]!.open();
    expect(wires[0]!.sent).toEqual([{ type: "watch", after: 7 }]);
    wires[0]!.say(event(8));
    wires[0]!.say(event(9));
    wires[0]!.drop();
    timers[0]!.run();
    wires[1]!.open();
    expect(wires[1]!.sent).toEqual([{ type: "watch", after: 9 }]);
    for (const id of [8, 9, 10]) wires[1]!.say(event(id));
    expect(events.map(one => one.id)).toEqual([8, 9, 10]);
  });
  it("takes a reset, whatever its number", () => {
    const { socket, wires, events } = harness();
    socket.start(100);
    wires[0]!.open();
    wires[0]!.say({ type: "event", id: 3, event: "reset", data: {} });
    wires[0]!.say(event(4));
    expect(events.map(one => one.id)).toEqual([3, 4]);
  });
  it("comes back ever more slowly, and at once when asked", () => {
    const { socket, wires, timers, states } = harness();
    socket.start();
    for (let n = 0; n < 7; n++) {
      wires.at(-1)!.drop();
      if (n < 6) timers.at(-1)!.run();
    }
    expect(timers.map(timer => timer.ms)).toEqual([300, 600, 1200, 2400, 4800, 8000, 8000]);
    expect(states.at(-1)).toBe("lost");
    socket.retry();
    expect(wires).toHaveLength(8);
    wires.at(-1)!.open();
    wires.at(-1)!.drop();
    expect(timers.at(-1)!.ms).toBe(300);
  });
  it("does not insist where it is refused", () => {
    const { socket, wires, timers, states } = harness();
    socket.start();
    wires[0]!.drop(1008);
    expect(states.at(-1)).toBe("denied");
    expect(timers).toHaveLength(0);
  });
  it("sends what waited when it is back", () => {
    const { socket, wires, timers, draw } = harness();
    socket.start();
    draw(2, 1);
    draw(2, 2, "rest");
    wires[0]!.open();
    expect(wires[0]!.draws()).toMatchObject([{ value: 2, quality: "rest" }]);
    wires[0]!.drop();
    draw(2, 3);
    timers[0]!.run();
    wires[1]!.open();
    expect(wires[1]!.draws()).toMatchObject([{ value: 3 }]);
  });
});
