// What the server told: read once, then kept up to date by its events.
import { computed, signal } from "@preact/signals";
import { failureOf, get, post } from "../api/http";
import type { Connection } from "../api/socket";
import type {
  Catalog, Event as LiveEvent, Grid, Job, Lora, LoraDetail, PictureFolder, Recipe, Run, RunDetail, State,
} from "../api/types";
import { attempt } from "./notices";
import { go, tokenIn } from "./route";

export const server = signal<State | null>(null);
export const refused = signal<{ sentence: string; remedy: string | null } | null>(null);
/** Whether what an earlier visit left has been put back: until then a click would be undone by it. */
export const ready = signal(false);
export const connection = signal<Connection>("connecting");
export const loras = signal<readonly Lora[] | null>(null);
export const runs = signal<readonly Run[] | null>(null);
export const grids = signal<readonly Grid[]>([]);
export const recipes = signal<readonly Recipe[]>([]);
export const folders = signal<readonly PictureFolder[]>([]);
export const jobs = signal<readonly Job[]>([]);
export const details = signal<ReadonlyMap<string, LoraDetail>>(new Map());
export const catalogs = signal<ReadonlyMap<string, Catalog>>(new Map());
export const runDetails = signal<ReadonlyMap<string, RunDetail>>(new Map());

export const bases = computed(() => server.value?.bases ?? []);
export const busyJobs = computed(() => jobs.value.filter(job => ["running", "stopping"].includes(job.state)));
/** The largest grid of a run's epochs, those that its verdict rests on too. */
export const gridOf = (run: Run): Grid | undefined =>
  grids.value.filter(grid => grid.path.startsWith(`${run.path}-verdict`) || grid.rows.some(row => row.startsWith(`${run.name}@`)))
    .sort((a, b) => b.cells - a.cells)[0];

export const lorasById = computed(() => new Map((loras.value ?? []).map(lora => [lora.id, lora])));

/** The token of the address that the command line printed becomes a cookie, and leaves the address bar. */
export async function enter(): Promise<boolean> {
  const token = tokenIn(location.hash);
  if (token) history.replaceState(null, "", "#/");
  try {
    if (token) await post("api/session", { token });
    server.value = await get<State>("api/state");
    refused.value = null;
    return true;
  } catch (thrown) {
    refused.value = failureOf(thrown);
    return false;
  }
}

export async function loadAll(): Promise<void> {
  await Promise.all([loadLoras(), loadRuns(), loadGrids(), loadRecipes(), loadFolders(), loadJobs()]);
}

/** Base models among them, which come and go as other files do. */
export const loadServer = (): Promise<void> => into(server, "api/state");
export const loadLoras = (): Promise<void> => into(loras, "api/loras");
export const loadRuns = (): Promise<void> => into(runs, "api/runs");
export const loadGrids = (): Promise<void> => into(grids, "api/grids");
export const loadRecipes = (): Promise<void> => into(recipes, "api/recipes");
export const loadFolders = (): Promise<void> => into(folders, "api/folders");

/** Events of jobs that came while their list was asked for; null for a job that was removed. */
type Meanwhile = Map<string, Job | null>;
const listening = new Set<Meanwhile>();

/** The list of jobs. What an event told of one since it was asked for is newer, and stays. */
export async function loadJobs(): Promise<void> {
  const since: Meanwhile = new Map();
  listening.add(since);
  const { answer, overtaken } = await ask<Job[]>("api/jobs");
  listening.delete(since);
  if (answer === undefined || overtaken) return;
  const known = new Map<string, Job | null>([...answer.map((job): [string, Job] => [job.id, job]), ...since]);
  jobs.value = [...known.values()].filter(job => job !== null);
}

const numbers = new Map<string, { asked: number; shown: number }>();

/** Ask for a list, and say whether the answer of a later question has come before this one. */
async function ask<T>(path: string): Promise<{ answer: T | undefined; overtaken: boolean }> {
  const order = numbers.get(path) ?? { asked: 0, shown: 0 };
  numbers.set(path, order);
  const own = ++order.asked;
  const answer = await attempt(() => get<T>(path));
  const overtaken = own < order.shown;
  if (answer !== undefined && !overtaken) order.shown = own;
  return { answer, overtaken };
}

/** Ask for a list; an answer that is overtaken by that of a later question is not shown. */
async function into<T>(target: { value: T }, path: string): Promise<void> {
  const { answer, overtaken } = await ask<NonNullable<T>>(path);
  if (answer !== undefined && !overtaken) target.value = answer; // one that failed leaves what is known, be that nothing
}

interface Asking {
  answer: Promise<void>;
  /** It changed since it was asked for: the answer may be older than that, and is followed by another. */
  changed: boolean;
}
const underWay = new Map<string, Asking>();

/** Ask once for what several parts of the page want at the same moment; once more where it has changed meanwhile. */
function once(name: string, read: () => Promise<void>, changed = false): Promise<void> {
  const known = underWay.get(name);
  if (known) {
    known.changed ||= changed;
    return known.answer;
  }
  const own: Asking = { answer: Promise.resolve(), changed: false };
  const all = async (): Promise<void> => {
    do {
      own.changed = false;
      await read();
    } while (own.changed);
  };
  underWay.set(name, own);
  own.answer = all().finally(() => underWay.delete(name));
  return own.answer;
}

const isKnown = (lora: string): boolean => details.peek().has(lora) || underWay.has(`lora ${lora}`);

export async function loadDetail(lora: string): Promise<void> {
  if (!details.peek().has(lora)) await readDetail(lora);
}

async function readDetail(lora: string, changed = false): Promise<void> {
  await once(`lora ${lora}`, async () => {
    const detail = await attempt(() => get<LoraDetail>(`api/loras/${encodeURIComponent(lora)}`));
    if (detail) details.value = new Map(details.peek()).set(lora, detail);
  }, changed);
}

export async function loadCatalog(family: string): Promise<void> {
  if (catalogs.peek().has(family)) return;
  await once(`catalog ${family}`, async () => {
    const catalog = await attempt(() => get<Catalog>(`api/catalog?family=${encodeURIComponent(family)}`));
    if (catalog) catalogs.value = new Map(catalogs.peek()).set(family, catalog);
  });
}

export async function loadRun(run: string, changed = false): Promise<void> {
  await once(`run ${run}`, async () => {
    const detail = await attempt(() => get<RunDetail>(`api/runs/${encodeURIComponent(run)}`));
    if (detail) runDetails.value = new Map(runDetails.peek()).set(run, detail);
  }, changed);
}

/** A LoRA's blocks in their order, or null while they are not known. */
export const blocksOf = (lora: string): readonly string[] | null =>
  details.value.get(lora)?.scheme.blocks.map(block => block.name) ?? null;

/** Something changed on the server, or in the folders below its roots. */
export function onEvent(event: LiveEvent): void {
  switch (event.event) {
    case "job":
      takeJob(event.data as unknown as Job);
      break;
    case "run":
      soon("runs", loadRuns);
      for (const id of idsOf(event)) {
        if (runDetails.peek().has(id) || underWay.has(`run ${id}`)) soon(`run ${id}`, () => loadRun(id, true));
      }
      break;
    case "file":
      forget(idsOf(event));
      for (const [name, load] of Object.entries({ loadServer, loadLoras, loadRuns, loadGrids, loadRecipes, loadFolders })) soon(name, load);
      break;
    case "norms":
      for (const id of idsOf(event)) if (isKnown(id)) void readDetail(id, true);
      break;
    case "log":
      logged.value = { job: String(event.data.job), last: Number(event.data.last) };
      break;
    case "reset":
      void loadServer();
      void loadAll();
  }
}

export const logged = signal<{ job: string; last: number } | null>(null);

const idsOf = (event: LiveEvent): string[] => (Array.isArray(event.data.ids) ? (event.data.ids as string[]) : []);

function takeJob(job: Job & { removed?: boolean }): void {
  for (const since of listening) since.set(job.id, job.removed ? null : job);
  if (job.removed) {
    jobs.value = jobs.peek().filter(one => one.id !== job.id);
    return;
  }
  const before = jobs.peek().find(one => one.id === job.id);
  jobs.value = before ? jobs.peek().map(one => (one.id === job.id ? job : one)) : [...jobs.peek(), job];
}

/** A file that changed under the page: what is known of it is asked for anew, and its pictures drawn again. */
function forget(ids: readonly string[]): void {
  const known = details.peek();
  for (const id of ids) if (underWay.has(`lora ${id}`)) void readDetail(id, true); // asked for before it changed
  const stale = ids.filter(id => known.has(id));
  if (stale.length === 0) return;
  details.value = new Map([...known].filter(([id]) => !stale.includes(id)));
  filesChanged.value = stale;
  for (const id of stale) void loadDetail(id);
}

export const filesChanged = signal<readonly string[]>([]);

// Many events of a moment are one request.
const waiting = new Map<string, ReturnType<typeof setTimeout>>();
function soon(name: string, load: () => Promise<void>): void {
  if (waiting.has(name)) return;
  waiting.set(name, setTimeout(() => {
    waiting.delete(name);
    void load();
  }, 250));
}

/** Where a visit without an address begins: where epochs wait to be chosen and no stack is there yet, with them. */
export function firstPage(hasStack: boolean): void {
  go(!hasStack && ((runs.value ?? []).length > 0 || server.value?.demo) ? "epochs" : "blocks", "", true);
}
