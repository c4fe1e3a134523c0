// The pictures and the socket together, with a socket and answers that a test gives.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { connection, details, loras } from "../src/state/studio";
import { desk, newLayer, reset, setWeight } from "../src/state/stack";
import { followStack, keepDesk, recallDesk, recallScenes, redrawAll, scenes, socket, stream, streamOf } from "../src/state/live";
import { followExplanation } from "../src/state/explain";
import { FakeWire, frameBytes, settle } from "./wire";

const wires: FakeWire[] = [];
let status = 200;
const NOW = streamOf(0, "now");
const BASE = streamOf(0, "base");
const failed = (stream: number, seq: number): object => ({ type: "failed", stream, seq, error: "busy", remedy: null, key: "", values: {} });
const wire = (): FakeWire => wires.at(-1)!;
const asked = (of: number): number[] => wire().draws().filter(own => own.stream === of).map(own => own.seq);

beforeEach(() => {
  wires.length = 0;
  vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8000/", dispatchEvent: () => true });
  vi.stubGlobal("WebSocket", class extends FakeWire {
    constructor() {
      super();
      wires.push(this);
    }
  });
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("{}", { status })));
  vi.stubGlobal("requestAnimationFrame", () => 0);
  vi.stubGlobal("createImageBitmap", () => Promise.resolve({ close: () => undefined, width: 64, height: 48 }));
  scenes.value = [{ prompt: "a girl", negative: "", seed: 1 }];
  details.value = new Map([["a", { scheme: { family: "sd1", blocks: [{ name: "IN01" }] } }]]) as never;
  reset({ base: "pocket", layers: [newLayer("a", "ink")] });
  socket.start(7);
  wire().open();
});
afterEach(() => {
  socket.stop();
  vi.unstubAllGlobals();
  status = 200;
});

it("a picture that was asked for earlier does not take a later failure away", async () => {
  const decoded: (() => void)[] = [];
  vi.stubGlobal("createImageBitmap", () => new Promise(done => decoded.push(() => done({ close: () => undefined, width: 1, height: 1 }))));
  const [first] = asked(NOW);
  wire().onmessage!({ data: frameBytes(NOW, first!) }); // is decoded while the next one fails
  setWeight(desk.value.layers[0]!.key, "IN01", 0.5);
  redrawAll();
  wire().say(failed(NOW, first! + 1));
  decoded.forEach(done => done());
  await settle();
  expect(stream(NOW).failure.value).toMatchObject({ seq: first! + 1 });
  wire().say(failed(NOW, first! - 1)); // and one of a request before that picture is none any more
  expect(stream(NOW).failure.value).toMatchObject({ seq: first! + 1 });
});

it("what failed is asked for again with the next change, and when pictures are drawn again", async () => {
  const end = followStack();
  wire().say(failed(BASE, asked(BASE).at(-1)!));
  const before = asked(BASE).length;
  setWeight(desk.value.layers[0]!.key, "IN01", 0.7); // of the stack: nothing that the base's picture shows
  await new Promise(done => setTimeout(done, 200));
  expect(asked(BASE)).toHaveLength(before + 1);
  wire().say({ type: "note", text: "pictures are drawn again", key: "live.again", values: {} });
  expect(asked(BASE)).toHaveLength(before + 2);
  end();
});

it("says that the page is refused, where a handshake that fails looks like a server that is gone", async () => {
  wire().drop();
  await settle();
  expect(connection.value).toBe("lost");
  socket.retry();
  expect(connection.value).toBe("lost"); // the warning stays while it is tried
  status = 401;
  wire().drop();
  await settle();
  await settle();
  expect(connection.value).toBe("denied");
  status = 200;
  socket.retry();
  wire().open();
  expect(connection.value).toBe("open");
});

it("goes on where it was when the browser brings a page back that was left", () => {
  socket.stop();
  socket.start();
  wire().open();
  expect(wires).toHaveLength(2);
  expect(wire().sent.find(own => own.type === "watch")).toEqual({ type: "watch", after: 7 });
  expect(asked(NOW)).toHaveLength(1);
});

it("asks to explain one stack at a time, and after that the newest one", async () => {
  const bodies: { stack: { terms: { vector: Record<string, number> }[] } }[] = [];
  const answers: (() => void)[] = [];
  vi.stubGlobal("fetch", (_: string, { body }: { body: string }) => new Promise(done => {
    bodies.push(JSON.parse(body));
    answers.push(() => done(new Response(JSON.stringify({ shares: {}, norm: 1, heat: null, warnings: [] }))));
  }));
  vi.useFakeTimers();
  const end = followExplanation();
  for (const weight of [0.1, 0.2, 0.3, 0.4]) {
    setWeight(desk.value.layers[0]!.key, "IN01", weight);
    await vi.advanceTimersByTimeAsync(400);
  }
  expect(bodies).toHaveLength(1);
  answers[0]!();
  await vi.advanceTimersByTimeAsync(1);
  expect(bodies.map(own => own.stack.terms[0]!.vector.IN01)).toEqual([0.1, 0.4]);
  answers[1]!();
  end();
  vi.useRealTimers();
});

it("keeps what an earlier visit left where the files' list cannot be read, and takes nothing that is no scene", () => {
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", { getItem: (name: string) => kept.get(name) ?? null, setItem: (name: string, text: string) => kept.set(name, text) });
  keepDesk();
  expect(recallDesk()?.desk.layers).toHaveLength(1);
  loras.value = null;
  reset();
  keepDesk();
  expect(recallDesk()?.desk.layers).toHaveLength(1);
  loras.value = [];
  keepDesk();
  expect(recallDesk()?.desk.layers).toHaveLength(0);
  kept.set("loratools.scenes", JSON.stringify([{ prompt: "a", negative: "", seed: 1 }, null, { prompt: 3 }, { prompt: "b", negative: "", seed: 0.5 }]));
  expect(recallScenes()).toEqual([{ prompt: "a", negative: "", seed: 1 }]);
  kept.set("loratools.scenes", '{"prompt": "a"}');
  expect(recallScenes()).toEqual([]);
});
