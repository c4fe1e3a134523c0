// Epochs: which run, how it went, which epoch to take and why, and its pictures.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { post } from "../api/http";
import type { EpochsJob, Job, Run, RunDetail } from "../api/types";
import { baseFor } from "../state/choose";
import { number, said, t } from "../state/i18n";
import { attempt } from "../state/notices";
import { href, route } from "../state/route";
import { grids, jobs, loadJobs, loadRun, lorasById, runDetails, runs } from "../state/studio";
import { Button, Icon, Meter } from "../ui/controls";
import { isOpen, JobLine } from "../queue/job_line";
import { making, Making } from "../queue/making";
import { TrainButton } from "../queue/train_button";
import { Chart } from "./chart";
import { GridView } from "./grid_view";
import { Samples } from "./samples";
import { chosenGrid, showGrid, tab, takeEpoch } from "./take";
import { VerdictCard } from "./verdict";

/** The newest first: whoever comes here has just trained. */
export const sorted = (all: readonly Run[]): Run[] => [...all].sort((a, b) => b.updated - a.updated);

export function EpochsPage() {
  const list = sorted(runs.value ?? []);
  const chosen = list.find(run => run.id === route.value.rest) ?? list[0];
  if (list.length === 0 && making().length > 0) return <Making />;
  if (runs.value !== null && list.length === 0 && grids.value.length === 0) {
    return <div class="bench start"><h2>{t("epochs.empty")}</h2><p>{t("epochs.empty.help")}</p><TrainButton /><a class="button" href={href("blocks")}>{t("page.blocks")}</a></div>;
  }
  const grid = tab.value === "grid" && grids.value.length > 0;
  return (
    <div class="epochs">
      <nav class="side" aria-label={t("runs")}>
        <section class="panel">
          <header><h2>{t("runs")}</h2><TrainButton /></header>
          <ul class="picks">
            {list.map(run => (
              <li key={run.id}>
                <a href={href("epochs", run.id)} aria-current={!grid && run === chosen ? "page" : undefined} onClick={() => (tab.value = "run")}>
                  <b>{run.name}</b>
                  <small>{t(`run.${run.state}`)} · {t("run.epochs", { count: run.epochs.length })}</small>
                </a>
              </li>
            ))}
          </ul>
        </section>
        {grids.value.length > 0 ? <GridPicks grid={grid} /> : null}
      </nav>
      {grid ? <GridView id={chosenGrid.value || grids.value[0]!.id} /> : chosen ? <RunView key={chosen.id} run={chosen} /> : null}
    </div>
  );
}

function GridPicks({ grid }: { grid: boolean }) {
  return (
    <section class="panel">
      <header><h2>{t("grids")}</h2></header>
      <ul class="picks">
        {grids.value.map(one => (
          <li key={one.id}>
            <button type="button" aria-pressed={grid && (chosenGrid.value || grids.value[0]!.id) === one.id} onClick={() => showGrid(one.id)}>
              <b>{one.name}</b>
              <small>{t("grid.cells", { count: one.cells })}</small>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function RunView({ run }: { run: Run }) {
  useEffect(() => void loadRun(run.id), [run.id, run.updated]);
  const detail = runDetails.value.get(run.id);
  const job = jobs.value.find(one => one.id === run.job);
  const part = run.steps ? Math.min(1, run.step / run.steps) : null;
  return (
    <div class="bench">
      <section class="panel run-head">
        <header>
          <h2>{run.name}</h2>
          <span class={`state ${run.state}`}><Icon name={run.state === "running" ? "play" : run.state === "done" ? "check" : "stop"} /> {t(`run.${run.state}`)}</span>
          <span class="hint">{run.path}</span>
          {job ? <Controls job={job} /> : run.state === "running" ? <RunControls run={run} /> : null}
        </header>
        {run.state === "running" ? (
          <>
            <Meter part={part} label={t("run.progress")} />
            <p class="hint">{t("run.step", { step: run.step, steps: run.steps ?? "?" })}{detail?.rate ? ` · ${t("run.rate", { rate: number(detail.rate) })}` : ""}</p>
          </>
        ) : null}
        <EpochList run={run} best={detail?.verdict?.epoch} />
        {detail?.problem ? <p class="failure"><Icon name="warn" /> {said(detail.problem)}</p> : null}
      </section>
      {detail ? <Told run={run} detail={detail} /> : <p class="hint">{t("loading")}</p>}
    </div>
  );
}

const MAIN = ["stop-after-epoch", "stop", "pause", "resume"] as const;
function Controls({ job }: { job: Job }) {
  return (
    <div class="tools">
      {MAIN.filter(action => job.can.includes(action)).map(action => (
        <Button key={action} label={t(`do.${action}`)} title={t(`do.${action}.help`)} kind={action === "stop" ? "danger" : "plain"}
          onClick={() => void attempt(() => post(`api/jobs/${encodeURIComponent(job.id)}`, { do: action })).then(loadJobs)} />
      ))}
    </div>
  );
}

/** A run that was started in a terminal listens as well. */
const RunControls = ({ run }: { run: Run }) => (
  <div class="tools">
    {(["stop-after-epoch", "stop"] as const).map(action => (
      <Button key={action} label={t(`do.${action}`)} title={t(`do.${action}.help`)} kind={action === "stop" ? "danger" : "plain"}
        onClick={() => void attempt(() => post(`api/runs/${encodeURIComponent(run.id)}`, { do: action }))} />
    ))}
  </div>
);

const points = (list: RunDetail["loss"]): [number, number][] => list.map(({ at, value }) => [at, value]);

function Told({ run, detail }: { run: Run; detail: RunDetail }) {
  const best = detail.verdict?.epoch;
  return (
    <>
      {detail.verdict ? <VerdictCard verdict={detail.verdict} onUse={number => takeEpoch(run, number)} /> : null}
      {!detail.verdict || detail.verdict.stale ? <Judging run={run} anew={detail.verdict !== null} /> : null}
      <div class="shown-and-logged">
        <Samples run={run} samples={detail.samples} best={best} />
        <div class="charts">
          <Chart title={t("chart.loss")} across={t("chart.step")} series={[{ name: t("chart.training"), points: points(detail.loss), smoothed: true }]} />
          <Chart title={t("chart.byEpoch")} across={t("chart.epoch")} mark={best === undefined ? undefined : { at: best, label: t("chart.best") }}
            series={[{ name: t("chart.training"), points: points(detail.epoch_loss) }, { name: t("chart.validation"), points: points(detail.validation), marked: true }]} />
        </div>
      </div>
    </>
  );
}

/** The newest job that judges the epochs of a run, whoever queued it. */
export const judging = (run: Run, all: readonly Job[]): Job | undefined =>
  all.filter(job => job.kind === "epochs" && job.results.includes(run.id)).sort((a, b) => b.created - a.created)[0];

/** One click to a recommendation, and how far it is. */
function Judging({ run, anew }: { run: Run; anew: boolean }) {
  const job = judging(run, jobs.value);
  const open = job !== undefined && isOpen(job);
  const family = lorasById.value.get(run.epochs[0]?.lora ?? "")?.family ?? "";
  const base = baseFor(family, run.base);
  const busy = useSignal(false);
  const measure = async (): Promise<void> => {
    if (!base || busy.value) return;
    busy.value = true;
    const request: EpochsJob = { kind: "epochs", run: run.id, base: base.id };
    if (await attempt(() => post<Job>("api/jobs", request))) await loadJobs();
    busy.value = false;
  };
  return (
    <section class="panel verdict none">
      <header><h2>{t(open ? "verdict.coming" : anew ? "verdict.old" : "verdict.none")}</h2></header>
      <p>{t(base ? "verdict.none.help" : "verdict.nobase")}</p>
      {job && job.state !== "done" ? <JobLine job={job} /> : null}
      {open ? null : <Button id="measure" kind="primary" label={t("verdict.measure")} disabled={!base || run.epochs.length === 0 || busy.value} onClick={() => void measure()} />}
    </section>
  );
}

/** Every epoch with its own button: whoever knows which one they want needs no verdict. */
function EpochList({ run, best }: { run: Run; best: number | undefined }) {
  if (run.epochs.length === 0) return <p class="hint">{t("epochs.none")}</p>;
  return (
    <div class="epoch-buttons" role="group" aria-label={t("epochs.all")}>
      <span class="hint">{t("epochs.use")}</span>
      {run.epochs.map(({ number }) => (
        <button key={number} type="button" class={number === best ? "epoch best" : "epoch"} data-epoch={number} title={t("epoch.use.help", { epoch: number })} onClick={() => takeEpoch(run, number)}>
          <b>{number}</b>{number === best ? <small>{t("epoch.best")}</small> : null}
        </button>
      ))}
    </div>
  );
}
