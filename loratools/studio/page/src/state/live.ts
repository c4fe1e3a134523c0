// Pictures that follow the stack. Each scene (a prompt and a seed) has a base, a before and a now; each is a stream.
// While the hand moves, few-step pictures of "now" are asked for; when it rests, whole ones of all that changed.
import { effect, signal, untracked } from "@preact/signals";
import { failureOf, get, home } from "../api/http";
import type { Frame } from "../api/frame";
import { LiveSocket, type Wire } from "../api/socket";
import type { Quality } from "../api/names";
import type { Draw, Failed, Grid, Lora, PictureSettings, ServerMessage, Stack, State } from "../api/types";
import { said } from "./i18n";
import { notify } from "./notices";
import { blocksOf, connection, details, filesChanged, loras, onEvent, server } from "./studio";
import { desk, EMPTY, toStack, type Desk } from "./stack";
import { recall, remember } from "./storage";

export const KINDS = ["base", "before", "now", "a", "b"] as const;
export type Kind = (typeof KINDS)[number];
export const streamOf = (scene: number, kind: Kind): number => scene * 8 + KINDS.indexOf(kind);

export interface Scene {
  prompt: string;
  negative: string;
  seed: number;
}
export type Sampling = Pick<PictureSettings, "steps" | "cfg" | "sampler" | "size">;
export const MOST_SCENES = 4;
export const REST = 150; // ms without a change: the hand rests

export const scenes = signal<readonly Scene[]>([]);
export const sampling = signal<Sampling>({ steps: null, cfg: null, sampler: null, size: null });
/** The stack that "before" shows: as it was when it was last kept. */
export const kept = signal<Desk>(EMPTY);
/** Two stacks to flip between. */
export const memory = signal<{ a: Desk | null; b: Desk | null }>({ a: null, b: null });
export const comparing = signal(false);
/** What "write" would save: the resting picture is that of the file. */
export const dtype = signal<Draw["dtype"]>("fp16");

/** What a stream's canvas shows and what is on its way. */
export interface Shown {
  seq: number;
  preview: boolean;
  cached: boolean;
  width: number;
  height: number;
  /** From the request to the screen. */
  ms: number;
}
export interface Progress {
  step: number;
  steps: number;
}
export interface Stream {
  readonly shown: ReturnType<typeof signal<Shown | null>>;
  readonly progress: ReturnType<typeof signal<Progress | null>>;
  readonly failure: ReturnType<typeof signal<Failed | null>>;
  /** Whether a picture newer than the one on the screen has been asked for. */
  readonly waiting: ReturnType<typeof signal<boolean>>;
}
const streams = new Map<number, Stream>();
export function stream(number: number): Stream {
  let found = streams.get(number);
  if (!found) {
    found = { shown: signal<Shown | null>(null), progress: signal<Progress | null>(null),
      failure: signal<Failed | null>(null), waiting: signal<boolean>(false) };
    streams.set(number, found);
  }
  return found;
}

// The last picture of a stream, until a newer one takes its place: canvases that come later are given it.
const bitmaps = new Map<number, ImageBitmap>();
const canvases = new Map<number, Set<HTMLCanvasElement>>();

export function attach(number: number, canvas: HTMLCanvasElement): () => void {
  const set = canvases.get(number) ?? new Set();
  canvases.set(number, set.add(canvas));
  const bitmap = bitmaps.get(number);
  if (bitmap) paint(canvas, bitmap);
  return () => set.delete(canvas);
}

export const bitmapOf = (number: number): ImageBitmap | undefined => bitmaps.get(number);

function paint(canvas: HTMLCanvasElement, bitmap: ImageBitmap): void {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
}

const asked = new Map<number, number>(); // stream -> when its newest draw was asked for, performance.now()

async function onFrame(frame: Frame): Promise<void> {
  const bitmap = await createImageBitmap(new Blob([frame.picture], { type: frame.mime }));
  if (socket.outdated(frame.stream, frame.seq)) {
    bitmap.close(); // a newer one was decoded sooner
    return;
  }
  bitmaps.get(frame.stream)?.close();
  bitmaps.set(frame.stream, bitmap);
  for (const canvas of canvases.get(frame.stream) ?? []) paint(canvas, bitmap);
  const { shown, progress, failure, waiting } = stream(frame.stream);
  const ms = performance.now() - (asked.get(frame.stream) ?? performance.now());
  const { seq, preview, cached, width, height } = frame;
  shown.value = { seq, preview, cached, width, height, ms };
  progress.value = null;
  if ((failure.peek()?.seq ?? 0) <= seq) failure.value = null; // a later request may have failed while this was decoded
  waiting.value = preview;
  document.dispatchEvent(new CustomEvent("studio:picture", { detail: { stream: frame.stream, seq, preview, ms } }));
}

/** Of the note that pictures are drawn again after they had to give way to a job. */
const AGAIN = "live.again";

function onMessage(message: Exclude<ServerMessage, { type: "event" }>): void {
  if (message.type === "note") {
    notify("note", said(message));
    if (message.key === AGAIN) redrawAll();
    return;
  }
  if (socket.outdated(message.stream, message.seq)) return; // of a request that a newer picture has answered
  const { progress, failure, waiting } = stream(message.stream);
  if (message.type === "drawing") progress.value = { step: message.step, steps: message.steps };
  else {
    progress.value = null;
    waiting.value = false;
    failure.value = message;
    sent.delete(message.stream); // it is asked for again with the next change, be that of something else
  }
}

function wire(): Wire {
  const address = new URL("api/live", home());
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(address) as unknown as Wire;
}

export const socket = new LiveSocket(wire, {
  onFrame,
  onEvent,
  onMessage,
  onConnection: state => {
    // while it is tried again it stays lost: a warning that comes and goes is none
    connection.value = state === "connecting" && connection.peek() !== "open" ? connection.peek() : state;
    if (state === "open") redrawAll(); // the server knows nothing of what was asked before
    if (state === "lost") void askWhetherDenied();
  },
});

/** A handshake that is refused looks to a page like a server that is gone; a plain request tells them apart. */
async function askWhetherDenied(): Promise<void> {
  try {
    await get<State>("api/state");
  } catch (thrown) {
    if ([401, 403].includes(failureOf(thrown).status)) socket.deny();
  }
}

const sent = new Map<number, string>(); // stream -> what was asked for last, so that nothing is drawn twice

function draw(number: number, stack: Stack, scene: Scene, quality: Quality): void {
  const request = { stack, settings: { ...scene, ...sampling.peek() }, quality, dtype: dtype.peek() };
  const text = JSON.stringify(request);
  if (sent.get(number) === text) return;
  sent.set(number, text);
  asked.set(number, performance.now());
  stream(number).waiting.value = true;
  socket.draw({ stream: number, ...request });
}

export const stackOf = (from: Desk): Stack => toStack(from, blocksOf);

/** Only a stack whose files are known is drawn: with its blocks' names, mute and solo count for every block. */
const ready = (from: Desk): boolean => from.base !== "" && from.layers.every(layer => blocksOf(layer.lora) !== null);

/** Few-step pictures of what changes under the hand, of every scene. */
function drawNow(quality: Quality): void {
  const now = desk.peek();
  if (!ready(now) || connection.peek() !== "open") return;
  scenes.peek().forEach((scene, n) => draw(streamOf(n, "now"), stackOf(now), scene, quality));
}

function drawRest(): void {
  drawNow("rest");
  if (connection.peek() !== "open") return;
  const base = desk.peek().base;
  scenes.peek().forEach((scene, n) => {
    if (base) draw(streamOf(n, "base"), { terms: [], base }, scene, "rest");
    const before = { ...kept.peek(), base };
    if (ready(before)) draw(streamOf(n, "before"), stackOf(before), scene, "rest");
    if (!comparing.peek()) return;
    for (const slot of ["a", "b"] as const) {
      const held = memory.peek()[slot];
      if (held && ready({ ...held, base })) draw(streamOf(n, slot), stackOf({ ...held, base }), scene, "rest");
    }
  });
}

export function redrawAll(): void {
  sent.clear();
  drawRest();
}

/** Keep the stack as it is now: what follows is compared with it. */
export function keep(): void {
  kept.value = desk.peek();
}

let frameAsked = false;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Something that pictures show has changed: at most one request an animation frame, a whole one when it rests. */
function changed(): void {
  if (!frameAsked) {
    frameAsked = true;
    requestAnimationFrame(() => {
      frameAsked = false;
      drawNow("drag");
    });
  }
  clearTimeout(timer);
  timer = setTimeout(drawRest, REST);
}

/** From here on pictures follow; returns how to end it. */
export function followStack(): () => void {
  const ends = [
    effect(() => {
      void [desk.value, kept.value, scenes.value, sampling.value, memory.value, comparing.value, details.value, dtype.value];
      untracked(changed);
    }),
    effect(() => {
      if (filesChanged.value.length > 0) untracked(redrawAll);
    }),
    effect(() => remember("scenes", scenes.value)),
    effect(() => {
      void [desk.value, kept.value, memory.value];
      clearTimeout(keeping);
      keeping = setTimeout(keepDesk, KEEP); // not at every step of a drag
    }),
  ];
  return () => ends.forEach(end => end());
}

const KEEP = 300; // ms
let keeping: ReturnType<typeof setTimeout> | undefined;

/** What is on the desk, for the next visit; at once when the page goes. */
export function keepDesk(): void {
  clearTimeout(keeping);
  if (loras.peek() === null && desk.peek().layers.length === 0) return; // the list of files could not be read
  const named = (from: Desk): Desk => ({ ...from, baseName: baseName(from.base) });
  const { a, b } = memory.peek();
  remember("desk", { desk: named(desk.peek()), kept: named(kept.peek()), memory: { a: a && named(a), b: b && named(b) } });
}

const baseName = (id: string): string | undefined => server.peek()?.bases.find(base => base.id === id)?.name;

export interface KeptDesk {
  desk: Desk;
  kept: Desk;
  memory: { a: Desk | null; b: Desk | null };
}
export const recallDesk = (): KeptDesk | null => recall<KeptDesk | null>("desk", null);
export function recallScenes(): readonly Scene[] {
  const left = recall<unknown>("scenes", []);
  return Array.isArray(left) ? left.filter(isScene).slice(0, MOST_SCENES) : [];
}

/** Whether it is one: another version of the page may have written something else. */
const isScene = (own: Partial<Scene> | null): own is Scene =>
  typeof own?.prompt === "string" && typeof own.negative === "string" && Number.isSafeInteger(own.seed);

/**
 * The scene of a first visit, at seed 1: of the base's or the family's prompts one that shows a whole figure, hands and
 * all, after the LoRA's own trigger word. A run whose epochs were drawn goes on with that grid's prompt and seed.
 */
export function firstScenes(base: string, { family, trigger }: Pick<Lora, "family" | "trigger">, grid?: Grid): readonly Scene[] {
  if (grid?.prompts[0]) return [{ prompt: grid.prompts[0], negative: "", seed: grid.seeds[0] ?? 1 }];
  const known = server.peek()?.prompts ?? {};
  const prompts = known[base] ?? known[family] ?? [];
  const whole = prompts.find(prompt => /(full|cowboy)[ _](body|shot)/.test(prompt)) ?? prompts[0] ?? "";
  const prompt = trigger && !whole.includes(trigger) ? [trigger, whole].filter(Boolean).join(", ") : whole;
  return [{ prompt, negative: "", seed: 1 }];
}
