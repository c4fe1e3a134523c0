// A WebSocket and a clock that a test moves by hand.
import { LiveSocket, type Handlers, type LiveEvent, type Wire } from "../src/api/socket";
import type { Connection } from "../src/api/socket";
import type { Frame } from "../src/api/frame";

export class FakeWire implements Wire {
  binaryType = "";
  readyState = 0;
  sent: Record<string, unknown>[] = [];
  onopen: Wire["onopen"] = null;
  onclose: Wire["onclose"] = null;
  onmessage: Wire["onmessage"] = null;
  onerror: Wire["onerror"] = null;
  send(data: string): void {
    this.sent.push(JSON.parse(data));
  }
  close(): void {
    this.readyState = 3;
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.({});
  }
  drop(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }
  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  draws(): { seq: number; stream: number; quality: string; value: unknown }[] {
    return this.sent.filter(one => one.type === "draw").map(one => ({
      seq: one.seq as number, stream: one.stream as number, quality: one.quality as string,
      value: (one.settings as { seed?: number }).seed,
    }));
  }
  acks(): [number, number][] {
    return this.sent.filter(one => one.type === "ack").map(one => [one.stream as number, one.seq as number]);
  }
}

export function frameBytes(stream: number, seq: number, flags = 0, kind = 2, picture = [1, 2, 3]): ArrayBuffer {
  const data = new ArrayBuffer(16 + picture.length);
  const view = new DataView(data);
  view.setUint8(0, kind);
  view.setUint8(1, flags);
  view.setUint16(2, stream, true);
  view.setUint32(4, seq, true);
  view.setUint16(8, 64, true);
  view.setUint16(10, 48, true);
  view.setUint32(12, picture.length, true);
  new Uint8Array(data, 16).set(picture);
  return data;
}

export function harness() {
  const wires: FakeWire[] = [];
  const timers: { run: () => void; ms: number }[] = [];
  const shown: Frame[] = [];
  const events: LiveEvent[] = [];
  const messages: unknown[] = [];
  const states: Connection[] = [];
  const gates: (() => void)[] = [];
  const held = { on: false };
  const handlers: Handlers = {
    onFrame: frame => {
      shown.push(frame);
      return held.on ? new Promise(resolve => gates.push(resolve)) : Promise.resolve();
    },
    onEvent: event => void events.push(event),
    onMessage: message => void messages.push(message),
    onConnection: state => void states.push(state),
  };
  const clock = { set: (run: () => void, ms: number) => timers.push({ run, ms }), clear: () => undefined };
  const socket = new LiveSocket(() => {
    const wire = new FakeWire();
    wires.push(wire);
    return wire;
  }, handlers, clock);
  const draw = (stream: number, value: number, quality: "drag" | "rest" = "drag"): void =>
    socket.draw({ stream, stack: { terms: [], base: "pocket" }, settings: { seed: value }, quality, dtype: "fp16" });
  return { socket, wires, timers, shown, events, messages, states, gates, held, draw };
}
export const settle = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 0));
