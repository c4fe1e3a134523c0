// The one websocket: it reconnects by itself, tells the server the last event that it saw, hands events on in their
// order and each once, and sends the newest draw of a stream only (the latest value wins).
import { parseFrame, type Frame } from "./frame";
import type { Draw, Event as LiveEvent, ServerMessage } from "./types";

export type { LiveEvent };
export type Wanted = Omit<Draw, "type" | "seq">;

export type Connection = "connecting" | "open" | "lost" | "denied";

export interface Handlers {
  /** Resolves when the picture is on the screen; only then is it acknowledged. */
  onFrame(frame: Frame): Promise<void>;
  onEvent(event: LiveEvent): void;
  onMessage(message: Exclude<ServerMessage, LiveEvent>): void;
  onConnection(state: Connection): void;
}

/** What the client needs of a WebSocket; tests hand in their own. */
export interface Wire {
  binaryType: string;
  readyState: number;
  send(data: string): void;
  close(): void;
  onopen: ((event: unknown) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onerror: ((event: unknown) => void) | null;
}

export interface Clock {
  set(run: () => void, ms: number): unknown;
  clear(timer: unknown): void;
}

const CLOCK: Clock = { set: (run, ms) => setTimeout(run, ms), clear: timer => clearTimeout(timer as number) };
const OPEN = 1;
const DENIED = [1008, 4001, 4003, 4401, 4403]; // the gate's: a wrong cookie or origin; trying again is of no use
const FIRST_WAIT = 300;
const LONGEST_WAIT = 8000;

interface Lane {
  seq: number;
  /** Waits to be sent; a newer one takes its place. */
  next: Wanted | null;
  /** A resting picture that follows when the few-step one of the same hand has come. */
  after: Wanted | null;
  /** Sent and not answered yet. */
  drawing: { seq: number; quality: "drag" | "rest" } | null;
}

export class LiveSocket {
  private wire: Wire | null = null;
  private timer: unknown = null;
  private wait = FIRST_WAIT;
  private lastEvent = 0;
  private closed = false;
  private readonly lanes = new Map<number, Lane>();
  private readonly newest = new Map<number, number>();

  constructor(
    private readonly connect: () => Wire,
    private readonly handlers: Handlers,
    private readonly clock: Clock = CLOCK,
  ) {}

  /** after: the last event that what the page has read includes; of one that was stopped, the last that it saw. */
  start(after = this.lastEvent): void {
    this.closed = false;
    this.lastEvent = after;
    this.open();
  }

  stop(): void {
    this.closed = true;
    this.clock.clear(this.timer);
    this.wire?.close();
    this.lose();
  }

  /** The server answers and will not have this page: no more is tried by itself. */
  deny(): void {
    if (this.wire) return;
    this.clock.clear(this.timer);
    this.handlers.onConnection("denied");
  }

  /** Try now instead of after the wait (the person asked, the page became visible, the network is back). */
  retry(): void {
    if (this.wire || this.closed) return;
    this.clock.clear(this.timer);
    this.wait = FIRST_WAIT;
    this.open();
  }

  /**
   * Ask for a picture. While a few-step picture of the stream is drawn, a newer one waits for its answer, so that a
   * hand in motion always sees pictures. A resting one follows the last few-step one, and that one goes out at once.
   */
  draw(request: Wanted): void {
    const lane = this.lane(request.stream);
    if (request.quality === "drag") {
      lane.next = request;
      lane.after = null;
      this.pump(lane);
    } else if (lane.drawing?.quality === "drag") {
      lane.after = request;
      if (lane.next) this.dispatch(lane, lane.next);
    } else {
      lane.next = request;
      lane.after = null;
      this.pump(lane);
    }
  }

  cancel(stream: number): void {
    const lane = this.lane(stream);
    lane.next = lane.after = null;
    if (lane.drawing) this.send({ type: "cancel", stream });
    lane.drawing = null;
  }

  private lane(stream: number): Lane {
    let lane = this.lanes.get(stream);
    if (!lane) this.lanes.set(stream, (lane = { seq: 0, next: null, after: null, drawing: null }));
    return lane;
  }

  private pump(lane: Lane): void {
    const request = lane.next;
    if (!request || this.wire?.readyState !== OPEN) return;
    if (lane.drawing?.quality === "drag" && request.quality === "drag") return;
    this.dispatch(lane, request);
  }

  private dispatch(lane: Lane, request: Wanted): void {
    if (this.wire?.readyState !== OPEN) return; // it stays where it is, and goes out when the connection is back
    lane.next = null;
    lane.drawing = { seq: ++lane.seq, quality: request.quality };
    this.send({ type: "draw", seq: lane.seq, ...request });
  }

  private open(): void {
    this.handlers.onConnection("connecting");
    let wire: Wire;
    try {
      wire = this.connect();
    } catch {
      this.again();
      return;
    }
    this.wire = wire;
    wire.binaryType = "arraybuffer";
    wire.onopen = () => {
      this.wait = FIRST_WAIT;
      this.handlers.onConnection("open");
      this.send({ type: "watch", after: this.lastEvent });
      for (const lane of this.lanes.values()) this.pump(lane);
    };
    wire.onmessage = event => this.receive(event.data);
    wire.onerror = () => undefined; // a close follows and says all there is to say
    wire.onclose = event => {
      if (this.wire !== wire) return;
      this.lose();
      if (this.closed) return;
      if (DENIED.includes(event.code)) this.handlers.onConnection("denied");
      else this.again();
    };
  }

  /** What was being drawn is lost with the connection: the page asks again when it is back. */
  private lose(): void {
    this.wire = null;
    for (const lane of this.lanes.values()) {
      lane.drawing = null;
      lane.next = lane.after ?? lane.next;
      lane.after = null;
    }
  }

  private again(): void {
    this.handlers.onConnection("lost");
    this.timer = this.clock.set(() => this.open(), this.wait);
    this.wait = Math.min(LONGEST_WAIT, this.wait * 2);
  }

  private send(message: unknown): void {
    if (this.wire?.readyState === OPEN) this.wire.send(JSON.stringify(message));
  }

  private receive(data: unknown): void {
    if (data instanceof ArrayBuffer) {
      this.frame(data);
      return;
    }
    const message = JSON.parse(String(data)) as ServerMessage;
    if (message.type === "event") {
      if (message.event !== "reset" && message.id <= this.lastEvent) return; // seen before the connection was lost
      this.lastEvent = message.id;
      this.handlers.onEvent(message);
      return;
    }
    if (message.type === "failed") this.answered(message.stream, message.seq);
    this.handlers.onMessage(message);
  }

  private frame(data: ArrayBuffer): void {
    let frame: Frame;
    try {
      frame = parseFrame(data);
    } catch (fault) {
      this.handlers.onMessage({ type: "note", text: String((fault as Error).message), key: "", values: {} });
      return;
    }
    const { stream, seq } = frame;
    const acknowledge = (): void => {
      this.send({ type: "ack", stream, seq });
      this.answered(stream, seq);
    };
    if (seq < (this.newest.get(stream) ?? 0)) {
      acknowledge(); // older than what is on the screen
      return;
    }
    this.newest.set(stream, seq);
    this.handlers.onFrame(frame).then(acknowledge, acknowledge);
  }

  private answered(stream: number, seq: number): void {
    const lane = this.lane(stream);
    if (lane.drawing && seq >= lane.drawing.seq) lane.drawing = null;
    if (!lane.drawing && !lane.next) {
      lane.next = lane.after;
      lane.after = null;
    }
    this.pump(lane);
  }

  /** Whether a newer picture of this stream than seq has come already. */
  outdated(stream: number, seq: number): boolean {
    return seq < (this.newest.get(stream) ?? 0);
  }
}
