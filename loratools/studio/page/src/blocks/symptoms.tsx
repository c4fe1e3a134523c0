// What is wrong with the picture: a rule of the style method at once, or a search that draws and measures.
import { signal, useSignal } from "@preact/signals";
import { post } from "../api/http";
import { evidenceOf, stackFrom } from "../api/names";
import type { Job, Started, SymptomRequest } from "../api/types";
import { setVector } from "../state/choose";
import { t, tOr } from "../state/i18n";
import { stackOf } from "../state/live";
import { attempt, notify } from "../state/notices";
import { href } from "../state/route";
import { catalogs, jobs, loadRecipes, lorasById, recipes } from "../state/studio";
import { change, desk, selected } from "../state/stack";
import { Button, Command } from "../ui/controls";
import { Evidence } from "./evidence";
import { JobLine } from "../queue/job_line";

/** What the last press of a button did, with its command. */
interface Last {
  symptom: string;
  kind: "fix" | "tune";
  started: Started;
}
const last = signal<Last | null>(null);

/** The six of the style method, in this order, for a family that has none of its own yet. */
const ORDER = ["hands", "limbs", "face", "clothes", "chaos", "style"];

export function Symptoms() {
  const layer = desk.value.layers[selected.value];
  const family = layer ? (lorasById.value.get(layer.lora)?.family ?? "") : "";
  const offered = catalogs.value.get(family)?.symptoms ?? [];
  const open = useSignal<string | null>(null);
  const target = useSignal("");
  const busy = useSignal(false);
  if (!layer) return null;
  const symptom = offered.find(one => one.name === open.value);
  const order = (name: string): number => (ORDER.indexOf(name) + 1 || ORDER.length + 1);
  const run = async (kind: "fix" | "tune"): Promise<void> => {
    if (!symptom || busy.value) return;
    busy.value = true;
    const on = target.value ? { recipe: target.value } : { stack: stackOf(desk.value) };
    const request: SymptomRequest = { symptom: symptom.name, kind, ...on };
    const started = await attempt(() => post<Started>("api/symptom", request));
    busy.value = false;
    if (!started) return;
    last.value = { symptom: symptom.name, kind, started };
    const stack = stackFrom(started);
    if (stack) takeStack(stack.terms.map(term => term.vector), stack.terms.map(term => term.weight));
    else if (kind === "fix") notify("done", t("symptom.recipe"));
    if (target.value) void loadRecipes();
  };
  return (
    <section class="panel symptoms" aria-labelledby="symptoms-title">
      <header><h2 id="symptoms-title">{t("symptoms")}</h2></header>
      <p class="hint">{t("symptoms.help")}</p>
      <div class="symptom-buttons" role="group" aria-labelledby="symptoms-title">
        {[...offered].sort((a, b) => order(a.name) - order(b.name)).map(({ name, help }) => (
          <button key={name} type="button" class="symptom" data-symptom={name} aria-expanded={open.value === name} title={tOr(`symptom.${name}.help`, help)}
            onClick={() => (open.value = open.value === name ? null : name)}>
            {tOr(`symptom.${name}`, name)}
          </button>
        ))}
      </div>
      {symptom ? (
        <div class="symptom-open">
          <p><b>{tOr(`symptom.${symptom.name}.help`, symptom.help)}</b></p>
          {recipes.value.length > 0 ? (
            <label class="field"><span>{t("symptom.on")}</span>
              <select value={target.value} onChange={event => (target.value = event.currentTarget.value)}>
                <option value="">{t("symptom.stack")}</option>
                {recipes.value.map(recipe => <option key={recipe.id} value={recipe.id}>{recipe.path}</option>)}
              </select>
            </label>
          ) : null}
          <div class="tools">
            <Button id="fix" kind="primary" label={t("symptom.fix")} title={t("symptom.fix.help")} disabled={busy.value} onClick={() => void run("fix")} />
            <Button id="tune" label={t("symptom.tune")} title={t("symptom.tune.help")} disabled={busy.value} onClick={() => void run("tune")} />
          </div>
          <ol class="rule">{symptom.steps.map((step, n) => <li key={n}>{tOr(`rule.${symptom.name}.${n}`, step)}</li>)}</ol>
        </div>
      ) : null}
      <Result />
    </section>
  );
}

/** The vectors of an answer, put on the layers in their order; one step of undo. */
function takeStack(vectors: readonly unknown[], weights: readonly number[]): void {
  const now = desk.peek();
  const layers = now.layers.map((layer, n) => {
    const vector = vectors[n];
    const weight = weights[n] ?? layer.weight;
    if (vector === null || typeof vector !== "object") return { ...layer, weight };
    return { ...layer, weight, vector: vector as Record<string, number>, muted: [], solo: [] };
  });
  change({ ...now, layers });
}

function Result() {
  const shown = last.value;
  if (!shown) return null;
  const { started, symptom, kind } = shown;
  const job: Job | undefined = jobs.value.find(one => one.id === started.job);
  const layer = desk.value.layers[selected.value];
  const evidence = job ? evidenceOf(job) : null;
  return (
    <div class="result" aria-live="polite">
      <p>
        <b>{tOr(`symptom.${symptom}`, symptom)}: {t(kind === "fix" ? "symptom.fix" : "symptom.tune")}</b>
        {started.note ? <> · {started.note}</> : null}
      </p>
      {job ? <JobLine job={job} /> : null}
      {evidence ? <Evidence evidence={evidence} onUse={layer && evidence.vector ? () => setVector(layer, evidence.vector!) : null} /> : null}
      {job && !evidence ? <p class="hint"><a href={href("queue", job.id)}>{t("symptom.follow")}</a></p> : null}
      <Command text={started.command} label={t("command")} />
    </div>
  );
}
