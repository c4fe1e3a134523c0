// What is wrong with the picture: a rule of the style method at once, or a search that draws and measures.
import { signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { post } from "../api/http";
import type { Job, Started, SymptomRequest, Term } from "../api/types";
import { said, t, tOr } from "../state/i18n";
import { scenes, stackOf } from "../state/live";
import { attempt, notify } from "../state/notices";
import { href } from "../state/route";
import { catalogs, jobs, loadJobs, loadRecipes, lorasById, recipes, server } from "../state/studio";
import { change, desk, selected } from "../state/stack";
import { Button, Command, Details } from "../ui/controls";
import { Choices } from "./choices";
import { JobEvidence } from "./job_evidence";
import { JobLine } from "../queue/job_line";

type Kind = "fix" | "tune" | "votes";

/** What the last press of a button did, with its command. */
interface Last {
  symptom: string;
  kind: Kind;
  started: Started;
}
const last = signal<Last | null>(null);

/** How long a search may take: a minute shows how it goes, five find something on two cores of a processor. */
const EFFORTS = {
  "1m": { quick: true, budget: "1m" }, "5m": { quick: true, budget: "5m" }, "15m": { quick: true, budget: "15m" },
  quick: { quick: true }, thorough: { quick: false },
} as const satisfies Record<string, SymptomRequest["options"]>;
type Effort = keyof typeof EFFORTS;
const chosen = signal<Effort | null>(null);

/** What a search moves: numbers of blocks, kinds of layers in them, or as the command does by itself. */
const PARTS = ["auto", "blocks", "kinds"] as const;
const parts = signal<(typeof PARTS)[number]>("auto");

/** Whether a search draws the prompts and seeds of the pictures on this page; else those of the training's tags. */
const fromHere = signal(false);

function promptsHere(): SymptomRequest["options"] {
  if (!fromHere.value) return {};
  const prompts = [...new Set(scenes.value.map(scene => scene.prompt.trim()).filter(Boolean))];
  return { prompts, seeds: [...new Set(scenes.value.map(scene => scene.seed))] };
}

/** The six of the style method, in this order, for a family that has none of its own yet. */
const ORDER = ["hands", "limbs", "face", "clothes", "chaos", "style"];

export function Symptoms() {
  const layer = desk.value.layers[selected.value];
  const family = layer ? (lorasById.value.get(layer.lora)?.family ?? "") : "";
  const offered = catalogs.value.get(family)?.symptoms ?? [];
  const open = useSignal<string | null>(null);
  const target = useSignal("");
  const busy = useSignal(false);
  const effort = chosen.value ?? (server.value?.device.kind === "cpu" ? "5m" : "quick");
  if (!layer) return null;
  const symptom = offered.find(one => one.name === open.value);
  const order = (name: string): number => (ORDER.indexOf(name) + 1 || ORDER.length + 1);
  const run = async (kind: Kind): Promise<void> => {
    if (!symptom || busy.value) return;
    busy.value = true;
    const keys = desk.value.layers.map(one => one.key);
    const on = target.value ? { recipe: target.value } : { stack: stackOf(desk.value) };
    const turn = target.value ? 0 : (desk.value.turns?.[symptom.name] ?? 0);
    const options: SymptomRequest["options"] =
      kind === "fix" ? { turn } : { ...(kind === "votes" ? { measure: ["votes"] as const } : {}), ...EFFORTS[effort], ...promptsHere(), parts: parts.value };
    const request: SymptomRequest = { symptom: symptom.name, kind: kind === "fix" ? "fix" : "tune", options, ...on };
    const started = await attempt(() => post<Started>("api/symptom", request));
    busy.value = false;
    if (!started) return;
    last.value = { symptom: symptom.name, kind, started };
    if (started.stack) takeStack(started.stack.terms, keys, { ...desk.value.turns, [symptom.name]: started.turn });
    else if (kind === "fix") notify("done", t("symptom.recipe"));
    if (target.value) void loadRecipes();
    if (started.job) void loadJobs();
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
            <Button id="votes" label={t("symptom.votes")} title={t("symptom.votes.help")} disabled={busy.value} onClick={() => void run("votes")} />
          </div>
          <label class="field effort"><span>{t("effort")}</span>
            <select id="effort" value={effort} onChange={event => (chosen.value = event.currentTarget.value as Effort)}>
              {(Object.keys(EFFORTS) as Effort[]).map(name => <option key={name} value={name}>{t(`effort.${name}`)}</option>)}
            </select>
          </label>
          <label class="field effort"><span>{t("parts")}</span>
            <select id="parts" title={t("parts.help")} value={parts.value} onChange={event => (parts.value = event.currentTarget.value as "auto")}>
              {PARTS.map(name => <option key={name} value={name}>{t(`parts.${name}`)}</option>)}
            </select>
          </label>
          <label class="check" title={t("symptom.prompts.help")}>
            <input id="own-prompts" type="checkbox" checked={fromHere.value} onChange={event => (fromHere.value = event.currentTarget.checked)} />
            <span>{t("symptom.prompts")}</span>
          </label>
          <Details title={t("symptom.rule")}>
            <ol class="rule">{symptom.steps.map((step, n) => <li key={n}>{tOr(`rule.${symptom.name}.${n}`, step)}</li>)}</ol>
          </Details>
        </div>
      ) : null}
      <Result />
    </section>
  );
}

/** The vectors of an answer, put on the layers that were asked about, in that order; one step of undo. */
export function takeStack(terms: readonly Term[], keys: readonly number[], turns: Record<string, number>): void {
  const now = desk.peek();
  const layers = now.layers.map(layer => {
    const term = terms[keys.indexOf(layer.key)];
    if (!term) return layer;
    const { weight, vector } = term;
    return typeof vector === "object" && vector !== null ? { ...layer, weight, vector, muted: [], solo: [] } : { ...layer, weight };
  });
  change({ ...now, layers, turns });
}

/** The rule's words in the person's language, where it was applied to a stack. */
function ruled({ started, symptom, kind }: Last): string {
  const own = started.says.map(said).join("; ");
  if (kind !== "fix" || started.stack === null) return own;
  for (let turn = started.turn - 1; turn >= 0; turn--) { // the last step is made again and again
    const words = tOr(`rule.${symptom}.${turn}`, "");
    if (words) return words;
  }
  return own;
}

function Result() {
  const shown = last.value;
  const job: Job | undefined = shown ? jobs.value.find(one => one.id === shown.started.job) : undefined;
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => { // a rule's result is the picture, which must not be scrolled away where the page scrolls as a whole
    if (shown?.started.job || matchMedia("(min-width: 901px)").matches) box.current?.scrollIntoView({ block: "nearest" });
  }, [shown?.started]);
  if (!shown) return null;
  const { started, symptom, kind } = shown;
  return (
    <div class="result" aria-live="polite" ref={box}>
      <p>
        <b>{tOr(`symptom.${symptom}`, symptom)}: {t(`symptom.${kind}`)}</b>
        {started.says.length > 0 ? <> · {ruled(shown)}</> : null}
      </p>
      {job ? <JobLine job={job} /> : null}
      {job ? <Choices job={job} /> : null}
      {job ? <JobEvidence job={job} /> : null}
      {job && job.state !== "done" ? <p class="hint"><a href={href("queue", job.id)}>{t("symptom.follow")}</a></p> : null}
      <Command text={started.command} label={t("command")} />
    </div>
  );
}
