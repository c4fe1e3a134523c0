// Generated from loratools/studio/api by `npm run types`: change the models there, not this file.

/** The frame of this number has been shown. */
export interface Ack {
  seq: number;
  stream: number;
  type: "ack";
}

/** A base model: ``id`` is ``pocket``, or that of a file or folder below the roots; ``size`` is [width, height]. */
export interface BaseInfo {
  family: string;
  id: string;
  name: string;
  size: [number, number];
}

/** A block of a family's scheme; ``group`` is ``BASE``, ``IN``, ``MID``, ``OUT`` or a container's name; ``norm_share`` is the block's share of the squared norm, None while it is not known. ``kinds`` are the left sides of rules for the kinds of its layers in this file, ``OUT05/attn1``; empty where it has one kind, or none is known. */
export interface Block {
  group: string;
  help: Words | null;
  kinds: (string)[];
  name: string;
  norm_share: number | null;
}

/** Nothing more is wanted of a stream. */
export interface Cancel {
  stream: number;
  type: "cancel";
}

/** ``GET /api/catalog?family=sd1``: what menus offer for a family. */
export interface Catalog {
  presets: (Preset)[];
  samplers: (string)[];
  scheme: Scheme;
  symptoms: (Symptom)[];
}

export type ClientMessage = Draw | Ack | Cancel | Watch;

/** Where pictures are drawn; ``memory`` in bytes, None where nothing says it. */
export interface Device {
  kind: "cuda" | "mps" | "cpu";
  memory: number | null;
  name: string;
}

/** A change that has no other answer. */
export interface Done {
  done: true;
}

/** Draw a stack; a newer ``seq`` of a stream replaces an older one. ``drag``: a few-step picture; ``rest``: the whole one, as the file written in ``dtype`` renders it. Streams: 0 base, 1 before, 2 now, 3 A, 4 B. */
export interface Draw {
  dtype: "fp16" | "bf16" | "fp32";
  quality: "drag" | "rest";
  seq: number;
  settings: PictureSettings;
  stack: Stack;
  stream: number;
  type: "draw";
}

/** How far a picture is; at most ten a second. */
export interface Drawing {
  seq: number;
  step: number;
  steps: number;
  stream: number;
  type: "drawing";
}

/** Draw and measure a run's epochs, and write its verdict. */
export interface EpochsJob {
  base: string;
  kind: "epochs";
  prompts?: (string)[];
  run: string;
  seeds?: (number)[];
}

/** Something changed. ``job``: a :class:`.jobs.Job`; ``log``: ``{"job": id, "last": number}``; ``run``, ``file``: ``{"ids": [...]}``, to be read anew; ``norms``: ``{"ids": [...]}`` of LoRAs whose norm shares are known now; ``reset``: events were missed, read everything anew. */
export interface Event {
  data: Record<string, unknown>;
  event: "job" | "run" | "file" | "log" | "norms" | "reset";
  id: number;
  type: "event";
}

/** ``GET /api/jobs/{id}/evidence``: what a search measured on pictures that it had not seen. ``vector``: of the searched LoRA, by block and by rules for kinds of their layers; ``amount``: what the strength of the one that is taken away is multiplied by, None where it stays. ``picture``: both, side by side. ``lora``: the searched LoRA; None of a recipe's, and of one that is gone. */
export interface Evidence {
  amount: number | null;
  lora: string | null;
  notes: (Words)[];
  picture: string | null;
  rows: (EvidenceRow)[];
  sentence: Words;
  vector: Record<string, number> | null;
}

/** A measure before and after, as text with the standard error; ``better`` is ``higher`` or ``lower``. */
export interface EvidenceRow {
  after: string;
  before: string;
  better: string;
  measure: string;
}

/** Share of the norm of each block of the weighed stack, and what changed from ``stack`` to ``other``. */
export interface ExplainAnswer {
  heat: (HeatCell)[] | null;
  norm: number;
  shares: Record<string, number>;
  warnings: (Words)[];
}

/** ``POST /api/stack/explain``: a stack, and another that it is compared with. */
export interface ExplainRequest {
  other?: Stack | null;
  stack: Stack;
}

/** A picture that cannot be drawn. */
export interface Failed {
  error: string;
  key: string;
  remedy: string | null;
  seq: number;
  stream: number;
  type: "failed";
  values: Record<string, string | number>;
}

/** Every answer of status 4xx and 5xx; ``key`` is that of :class:`.words.Words`, with ``.remedy`` of the remedy. */
export interface Failure {
  error: string;
  key: string;
  remedy: string | null;
  values: Record<string, string | number>;
}

/** A LoRA file to be written: its root, its name (``.safetensors`` is added) and its storage type. */
export interface FileTarget {
  dtype?: "fp16" | "bf16" | "fp32";
  force?: boolean;
  name: string;
  rank?: string;
  root: string;
}

/** A grid of pictures on disk. */
export interface Grid {
  cells: number;
  changed: number;
  id: string;
  name: string;
  path: string;
  prompts: (string)[];
  root: string;
  rows: (string)[];
  seeds: (number)[];
  size: [number, number];
  weights: (number)[];
}

/** A cell of a grid; ``key`` is its key in ``grid.json`` and ``stars`` 0 where it has none. */
export interface GridCell {
  epoch: number | null;
  key: string;
  picture: string | null;
  prompt: number;
  row: number;
  seed: number;
  stars: number;
  weight: number;
}

/** ``GET /api/grids/{id}``; ``pair`` is the next blind one, None where there is nothing to compare. */
export interface GridDetail {
  cells: (GridCell)[];
  grid: Grid;
  pair: Pair | null;
  pairs_seen: number;
  standings: (Standing)[];
}

/** Draw a grid of epochs x weights of a run, or of LoRA files. */
export interface GridJob {
  base: string;
  cfg?: number | null;
  kind: "grid";
  name: string;
  negative?: string;
  prompts: (string)[];
  root: string;
  rows: (string)[];
  seeds?: (number)[];
  steps?: number | null;
  weights?: string;
}

/** A block of the change between two stacks: |A - B| as a share of |A| and |B|, and their cosine. */
export interface HeatCell {
  block: string;
  change: number;
  cosine: number | null;
}

/** A job of the queue; times in seconds since 1970. ``says`` is the title in words that the page has. ``results`` are ids of what it wrote (LoRAs, runs, grids); of a job that judges epochs that of their run, too. ``asks``: it is paused, and pairs of pictures wait to be chosen from (``/api/jobs/{id}/round``). */
export interface Job {
  asks: boolean;
  can: ("pause" | "resume" | "stop" | "stop-after-epoch" | "up" | "down" | "remove")[];
  command: string;
  created: number;
  ended: number | null;
  error: Words | null;
  heavy: boolean;
  id: string;
  kind: string;
  position: number;
  progress: Progress;
  results: (string)[];
  says: Words;
  started: number | null;
  state: "waiting" | "running" | "paused" | "stopping" | "done" | "failed" | "stopped";
  step: string;
  title: string;
}

/** ``POST /api/jobs/{id}``. */
export interface JobDo {
  do: "pause" | "resume" | "stop" | "stop-after-epoch" | "up" | "down" | "remove";
}

/** ``GET /api/jobs/{id}/log?after=N``: the lines after number N, at most 2,000; ``more`` says that others follow. */
export interface JobLog {
  lines: (LogLine)[];
  more: boolean;
}

export type JobRequest = TrainJob | ResumeJob | GridJob | EpochsJob | RecipeJob;

/** A line of a job's log; numbers rise by one. */
export interface LogLine {
  number: number;
  text: string;
}

/** A LoRA file; ``changed`` in seconds since 1970, ``run`` and ``epoch`` where it is a run's. */
export interface Lora {
  bytes: number;
  changed: number;
  epoch: number | null;
  family: string;
  id: string;
  name: string;
  path: string;
  rank: number | null;
  root: string;
  run: string | null;
  trigger: string | null;
}

/** ``GET /api/loras/{id}``: with its blocks, and what ``loratools inspect`` shows. */
export interface LoraDetail {
  bytes: number;
  changed: number;
  epoch: number | null;
  family: string;
  id: string;
  metadata: Record<string, string>;
  name: string;
  path: string;
  rank: number | null;
  root: string;
  run: string | null;
  scheme: Scheme;
  trigger: string | null;
}

/** The stars as they are kept. */
export interface MarkAnswer {
  picture: string;
  stars: number;
}

/** ``POST /api/marks``: stars of a grid's picture, 0 takes them back. */
export interface MarkRequest {
  picture: string;
  stars: number;
}

/** Something that a person should know, such as a smaller preview for want of memory. */
export interface Note {
  key: string;
  text: string;
  type: "note";
  values: Record<string, string | number>;
}

/** The body ``{}`` of a request that says all by its address. */
export interface Nothing {

}

/** Two pictures to be shown blind; ``left`` and ``right`` are cells' keys. */
export interface Pair {
  left: string;
  left_picture: string;
  right: string;
  right_picture: string;
}

/** ``GET /api/folders``: a folder of pictures below the roots; ``captions`` of them have a text beside them. */
export interface PictureFolder {
  captions: number;
  id: string;
  name: string;
  path: string;
  pictures: number;
  root: string;
}

/** How a picture is drawn; ``size`` is [width, height]; None stands for the base's own. */
export interface PictureSettings {
  cfg?: number | null;
  negative?: string;
  prompt?: string;
  sampler?: string | null;
  seed?: number;
  size?: [number, number] | null;
  steps?: number | null;
}

/** A value at a step or an epoch. */
export interface Point {
  at: number;
  value: number;
}

/** A named vector that a family's sliders can be set to. */
export interface Preset {
  name: string;
  weights: Record<string, number>;
}

/** How far a job is: ``done`` of ``total`` in ``unit`` (``step``, ``picture``, ``module``). */
export interface Progress {
  done: number;
  left_seconds: number | null;
  note: string;
  total: number | null;
  unit: string;
}

/** A recipe below the roots. */
export interface Recipe {
  changed: number;
  id: string;
  name: string;
  path: string;
  root: string;
}

/** ``GET /api/recipes/{id}``; ``vectors`` are those that it names, ``undo`` says whether an edit can be undone. */
export interface RecipeDetail {
  base: string | null;
  problem: Words | null;
  recipe: Recipe;
  steps: (RecipeStep)[];
  text: string;
  undo: boolean;
  vectors: Record<string, Record<string, number>>;
}

/** Run a recipe as it is now, or one of its steps and what that needs. */
export interface RecipeJob {
  kind: "recipe";
  only?: string | null;
  recipe: string;
}

/** A step of a recipe: its ``kind``, and its text as it stands. */
export interface RecipeStep {
  kind: string;
  name: string;
  text: string;
}

/** A recipe whose vector ``vector`` gets the weights of the stack's term ``term``, edited in place, undoable; ``merge`` is the merge step that is meant where there are several. */
export interface RecipeTarget {
  merge?: string | null;
  recipe: string;
  term?: number;
  vector: string;
}

/** Go on with a run that was stopped, to the byte; ``epochs`` makes it longer. */
export interface ResumeJob {
  epochs?: number | null;
  kind: "resume";
  run: string;
}

/** A folder that was opened on the command line. */
export interface Root {
  id: string;
  name: string;
}

/** ``GET /api/jobs/{id}/round``: what a search by a person's choices asks: the next of its ``pairs``, of which ``answered`` are; with ``enough`` the search can go on, and ``pair`` is None when all are answered. */
export interface Round {
  answered: number;
  enough: boolean;
  number: number;
  pair: Pair | null;
  pairs: number;
}

/** ``POST /api/jobs/{id}/round``: which picture of a round's pair is better. */
export interface RoundVote {
  left: string;
  right: string;
  winner: "left" | "right" | "none";
}

/** A training run, whoever started it; ``updated`` in seconds since 1970. */
export interface Run {
  base: string;
  epochs: (RunEpoch)[];
  id: string;
  job: string | null;
  name: string;
  path: string;
  root: string;
  state: "running" | "stopped" | "done";
  step: number;
  steps: number | null;
  updated: number;
}

/** ``GET /api/runs/{id}``; ``rate`` in steps a second, ``loss`` by step, ``validation`` by epoch. */
export interface RunDetail {
  base: string;
  epoch_loss: (Point)[];
  epochs: (RunEpoch)[];
  id: string;
  job: string | null;
  loss: (Point)[];
  name: string;
  path: string;
  problem: Words | null;
  rate: number | null;
  root: string;
  samples: (Sample)[];
  state: "running" | "stopped" | "done";
  step: number;
  steps: number | null;
  updated: number;
  validation: (Point)[];
  verdict: Verdict | null;
}

/** ``POST /api/runs/{id}``: stop a run that goes on, after its step or its epoch; its state is saved. */
export interface RunDo {
  do: "stop" | "stop-after-epoch";
}

/** An epoch of a run and its file. */
export interface RunEpoch {
  lora: string;
  number: number;
}

/** A picture that a run drew of itself; epoch 0 is before the first. */
export interface Sample {
  epoch: number;
  picture: string;
  prompt: string;
  step: number | null;
}

/** The ordered blocks that sliders are drawn for. */
export interface Scheme {
  blocks: (Block)[];
  family: string;
}

export type ServerMessage = Drawing | Failed | Note | Event;

/** ``POST /api/session``: the token of the address that ``loratools studio`` printed. */
export interface Session {
  token: string;
}

/** LoRAs on a base: what a picture is drawn of and what is written. */
export interface Stack {
  base: string;
  terms: (Term)[];
}

/** How a row did in the blind pairs; ``rating`` on Elo's scale, 0 the average. */
export interface Standing {
  rating: number;
  row: string;
  shown: number;
  stars: number;
  wins: number;
}

/** What a button did: the command that does the same, the recipe's step, and the job that runs it (None where it is done already). Where a symptom's rule was applied to a stack: the ``stack`` as it is then, and the ``turn`` of the rule's next step. */
export interface Started {
  command: string;
  job: string | null;
  says: (Words)[];
  stack: Stack | null;
  step: string;
  turn: number;
}

/** ``GET /api/state``; ``prompts`` are a family's example prompts, and ``last_event`` is where a watch begins. */
export interface State {
  bases: (BaseInfo)[];
  demo: boolean;
  device: Device;
  last_event: number;
  prompts: Record<string, (string)[]>;
  roots: (Root)[];
  version: string;
}

/** What can be wrong with pictures, and what the guide does about it. */
export interface Symptom {
  help: string;
  name: string;
  steps: (string)[];
}

/** How a symptom is repaired: a step's size and its ``turn`` for ``fix`` (how many of the rule's steps a stack has seen; a recipe remembers it), effort and measures for ``tune``. ``like`` and ``unlike`` are folders of pictures; no measure that runs a program can be asked for here. */
export interface SymptomOptions {
  budget?: string | null;
  keep?: number | null;
  like?: string | null;
  measure?: ("judge" | "votes")[];
  parts?: "auto" | "blocks" | "kinds";
  prompts?: (string)[];
  quick?: boolean;
  seeds?: (number)[];
  step?: number | null;
  turn?: number;
  unlike?: string | null;
}

/** ``POST /api/symptom``: of a stack, whose numbers come back (fix) or are searched (tune); or of a recipe. */
export interface SymptomRequest {
  kind: "fix" | "tune";
  options?: SymptomOptions;
  recipe?: string | null;
  stack?: Stack | null;
  symptom: string;
}

/** A LoRA of a stack: strength, vector (weights by block and by rules for kinds of their layers, ``OUT05/attn1``; or text) and the strengths of its two parts. */
export interface Term {
  lora: string;
  te: number;
  unet: number;
  vector: Record<string, number> | string | null;
  weight: number;
}

/** Train a LoRA on a folder below the roots; ``more`` are other settings of ``loratools train``. */
export interface TrainJob {
  base: string;
  images: string;
  kind: "train";
  more?: Record<string, string | number | boolean>;
  name: string;
  root: string;
}

/** ``GET /api/presets``: named settings of a training, whose ``source`` says where they are from; ``settings`` are those that a person may want to see before they start. */
export interface TrainPreset {
  name: string;
  settings: Record<string, string>;
  source: string;
}

/** A vector: its weights by block and by rule (``OUT05/attn1``), its spellings, and the preset that it equals. */
export interface VectorAnswer {
  preset: string | null;
  texts: VectorTexts;
  weights: Record<string, number>;
}

/** ``POST /api/vector``: a vector as text (``GP1``, numbers, names), or its weights by block and by rule. */
export interface VectorRequest {
  family?: string;
  text?: string | null;
  weights?: Record<string, number> | null;
}

/** A vector written as bare numbers, as a line for LoRA Block Weight, and as short as it goes. */
export interface VectorTexts {
  lbw: string;
  numbers: string;
  short: string;
}

/** Which epoch ``NAME.verdict.json`` recommends, its English ``sentence``, why in words that the page ``says``, and whether it is ``stale`` for the files as they are now. */
export interface Verdict {
  epoch: number;
  epochs: (VerdictEpoch)[];
  says: (Words)[];
  sentence: string;
  stale: Words | null;
}

/** What the pictures of an epoch said: measure -> [mean, standard error]. */
export interface VerdictEpoch {
  epoch: number;
  figures: Record<string, [number | null, number | null]>;
  note: Words;
}

/** The standings after a vote, and the next pair. */
export interface VoteAnswer {
  pair: Pair | null;
  pairs_seen: number;
  standings: (Standing)[];
}

/** ``POST /api/votes``: which of two cells of a grid (keys) looked better; the answer is :class:`GridDetail`'s ``standings`` and the next ``pair``. */
export interface VoteRequest {
  grid: string;
  left: string;
  right: string;
  winner: "left" | "right" | "none";
}

/** Send events from now on, and before that those after the id ``after``. */
export interface Watch {
  after: number;
  type: "watch";
}

/** Something to say: the page has the words for ``key``, into which ``values`` go; ``text`` is the English. */
export interface Words {
  key: string;
  text: string;
  values: Record<string, string | number>;
}

/** ``POST /api/write``; ``dry_run`` answers what would be done, and does nothing. */
export interface WriteRequest {
  dry_run?: boolean;
  stack: Stack;
  to: FileTarget | RecipeTarget;
}
