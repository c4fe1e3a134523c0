// What a run drew of itself: an epoch a row, a prompt a column, the same seeds all along.
import { useSignal } from "@preact/signals";
import { post } from "../api/http";
import type { GridJob, Job, Run, Sample } from "../api/types";
import { isOpen, JobLine } from "../queue/job_line";
import { baseFor } from "../state/choose";
import { t } from "../state/i18n";
import { attempt } from "../state/notices";
import { gridOf, jobs, lorasById, server } from "../state/studio";
import { narrow } from "../state/theme";
import { Button } from "../ui/controls";
import { GridView } from "./grid_view";
import { Large } from "./large";
import { takeEpoch } from "./take";
import { PictureGrid, type GridPicture } from "./picture_grid";
import { moved } from "./window";

export interface SampleTable {
  epochs: number[];
  prompts: string[];
  at: Map<string, Sample>;
}

/** Several samples of a place (by step) are one: the last. */
export function tabled(samples: readonly Sample[]): SampleTable {
  const at = new Map<string, Sample>();
  for (const sample of samples) {
    const key = `${sample.epoch} ${sample.prompt}`;
    const other = at.get(key);
    if (!other || (sample.step ?? 0) >= (other.step ?? 0)) at.set(key, sample);
  }
  const epochs = [...new Set(samples.map(sample => sample.epoch))].sort((a, b) => a - b);
  return { epochs, prompts: [...new Set(samples.map(sample => sample.prompt))], at };
}

const epochName = (epoch: number): string => (epoch === 0 ? t("samples.before") : t("epoch.number", { epoch }));

export function Samples({ run, samples, best }: { run: Run; samples: readonly Sample[]; best: number | undefined }) {
  const open = useSignal<[number, number] | null>(null);
  if (samples.length === 0) return <NoSamples run={run} />;
  const { epochs, prompts, at } = tabled(samples);
  const has = new Set(run.epochs.map(epoch => epoch.number));
  const cell = (row: number, column: number): GridPicture | null => {
    const [epoch, prompt] = [epochs[row], prompts[column]];
    const sample = epoch === undefined || prompt === undefined ? undefined : at.get(`${epoch} ${prompt}`);
    return sample ? { key: sample.picture, picture: sample.picture, title: `${epochName(sample.epoch)}: ${sample.prompt}` } : null;
  };
  const rows = epochs.map(epoch => ({
    key: String(epoch),
    label: epochName(epoch),
    note: epoch === best ? t("epoch.best") : "",
    extra: has.has(epoch) ? <button type="button" class="button small" tabIndex={-1} onClick={() => takeEpoch(run, epoch)}>{t("epoch.use")}</button> : null,
  }));
  const shown = open.value ? cell(...open.value) : null;
  return (
    <section class="panel" aria-labelledby="samples-title">
      <header><h2 id="samples-title">{t("samples")}</h2><span class="hint">{t("samples.help")}</span></header>
      <PictureGrid label={t("samples")} rows={rows} columns={prompts} at={cell} side={narrow.value ? 128 : prompts.length <= 3 ? 208 : 148} aspect={1}
        onOpen={(row, column) => (open.value = [row, column])}
        onKey={(key, row) => key.toLowerCase() === "u" && has.has(epochs[row]!) && (takeEpoch(run, epochs[row]!), true)} />
      {shown && open.value ? (
        <Large cell={shown} other={open.value[0] > 0 ? cell(0, open.value[1]) : null}
          onKey={key => {
            const to = moved(key, open.value![0], open.value![1], epochs.length, prompts.length, (row, column) => cell(row, column) !== null);
            if (to) open.value = to;
            return to !== null;
          }}
          onUse={has.has(epochs[open.value[0]]!) ? () => takeEpoch(run, epochs[open.value![0]]!) : null}
          onClose={() => (open.value = null)} />
      ) : null}
    </section>
  );
}

/** The job that draws the grid of this name, or is to draw it; that of another run is none. */
export const drawingOf = (name: string, all: readonly Job[]): Job | undefined =>
  all.find(one => one.kind === "grid" && isOpen(one) && one.says.values.name === name);

/** A run that drew nothing of itself: the pictures that its verdict rests on, or its epochs drawn side by side now. */
function NoSamples({ run }: { run: Run }) {
  const asked = useSignal<string | null>(null);
  const busy = useSignal(false);
  const job = jobs.value.find(one => one.id === asked.value);
  const family = lorasById.value.get(run.epochs[0]?.lora ?? "")?.family ?? "";
  const base = baseFor(family, run.base);
  const drawn = gridOf(run);
  const name = `${run.name}-grid`;
  const drawing = drawingOf(name, jobs.value);
  if (drawn) return <GridView id={drawn.id} />;
  const draw = async (): Promise<void> => {
    if (!base) return;
    const prompts = (server.value?.prompts[base.id] ?? server.value?.prompts[family] ?? [""]).slice(0, 2);
    const request: GridJob = { kind: "grid", base: base.id, rows: [run.id], weights: "0:1:0.25", prompts, seeds: [1], root: run.root, name };
    busy.value = true;
    const started = await attempt(() => post<Job>("api/jobs", request));
    busy.value = false;
    if (started) asked.value = started.id;
  };
  return (
    <section class="panel">
      <header><h2>{t("samples")}</h2></header>
      <p>{t(drawing ? "samples.coming" : "samples.none")}</p>
      {drawing && drawing !== job ? <JobLine job={drawing} /> : null}
      <div class="tools">
        <Button label={t("samples.draw")} title={t("samples.draw.help")} disabled={!base || run.epochs.length === 0 || busy.value || drawing !== undefined} onClick={() => void draw()} />
      </div>
      {job ? <JobLine job={job} /> : null}
    </section>
  );
}
