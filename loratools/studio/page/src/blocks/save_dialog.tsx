// Writing what is on the screen: a LoRA file of its own, or a vector of a recipe. The command stands there before the
// button is pressed.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { asking } from "../api/asking";
import { failureOf, get, post } from "../api/http";
import type { FileTarget, RecipeDetail, RecipeTarget, Started, WriteRequest } from "../api/types";
import { written } from "../state/choose";
import { said, t } from "../state/i18n";
import { dtype, stackOf } from "../state/live";
import { jobs, loadLoras, loadRecipes, recipes, server } from "../state/studio";
import { desk, selected } from "../state/stack";
import { Button, Command, Dialog, Icon } from "../ui/controls";
import { JobLine } from "../queue/job_line";
import { signal } from "@preact/signals";

export const saving = signal(false);
const REST = 300;

/** A file's name after what is in the stack: "ink@6" and "base" make "ink_6". */
export function proposed(names: readonly string[]): string {
  const first = (names[0] ?? "my_style").replace(/@/g, "_").replace(/[^\p{L}\p{N}_-]+/gu, "_").replace(/^_+|_+$/g, "");
  return `${first || "my_style"}_weighed`;
}

export function SaveDialog() {
  const roots = server.value?.roots ?? [];
  const to = useSignal<"file" | "recipe">("file");
  const file = useSignal<FileTarget>({ root: roots[0]?.id ?? "", name: proposed(desk.value.layers.map(layer => layer.name)), dtype: dtype.value, rank: "exact", force: false });
  const recipe = useSignal<RecipeTarget>({ recipe: recipes.value[0]?.id ?? "", vector: "", term: selected.value });
  const plan = useSignal<Started | null>(null);
  const fault = useSignal<{ sentence: string; remedy: string | null } | null>(null);
  // what was written, and all that stood in the dialog then: what is changed afterwards is not written yet
  const done = useSignal<{ answer: Started; text: string } | null>(null);
  const busy = useSignal(false);
  const request = (): WriteRequest => ({ stack: stackOf(desk.value), to: to.value === "file" ? file.value : recipe.value });
  const whole = to.value === "file" ? file.value.name.trim() !== "" && file.value.root !== "" : recipe.value.recipe !== "" && recipe.value.vector !== "";
  const text = JSON.stringify([request(), whole]);
  useEffect(() => {
    plan.value = null;
    if (!whole) return;
    return asking(() => post<Started>("api/write", { ...request(), dry_run: true }), answer => {
      plan.value = answer;
      fault.value = null;
    }, thrown => (fault.value = failureOf(thrown)), REST);
  }, [text]);
  const started = done.value?.text === text ? done.value.answer : null;
  const save = async (): Promise<void> => {
    busy.value = true;
    const snapshot = desk.value;
    try {
      const answer = await post<Started>("api/write", request());
      done.value = { answer, text };
      fault.value = null;
      written.value = { desk: snapshot, job: answer.job };
      if (to.value === "recipe") void loadRecipes();
      else if (answer.job === null) void loadLoras();
    } catch (thrown) {
      fault.value = failureOf(thrown);
    }
    busy.value = false;
  };
  const job = jobs.value.find(one => one.id === started?.job);
  const close = (): void => void (saving.value = false);
  const over = started !== null && (started.job === null || job?.state === "done");
  return (
    <Dialog title={t("save.title")} id="save-dialog" onClose={close}>
      <p class="hint">{t(to.value === "file" ? "save.help" : "save.recipe.help")}</p>
      <div class="segments" role="radiogroup" aria-label={t("save.where")}>
        {(["file", "recipe"] as const).map(one => (
          <label key={one} class="segment">
            <input type="radio" name="save-to" checked={to.value === one} onChange={() => (to.value = one)} />
            <span>{t(`save.${one}`)}</span>
          </label>
        ))}
      </div>
      {to.value === "file" ? <FileFields target={file.value} onChange={next => (file.value = next)} /> : <RecipeFields target={recipe.value} onChange={fields => (recipe.value = { ...recipe.value, ...fields })} />}
      {fault.value ? <p class="failure" role="alert"><Icon name="warn" /> {fault.value.sentence} {fault.value.remedy ?? ""}</p> : null}
      {(started ?? plan.value) ? <Shown started={(started ?? plan.value)!} over={over} /> : null}
      {job ? <JobLine job={job} /> : null}
      {over ? <p class="success" role="status"><Icon name="check" /> {t(to.value === "file" ? "save.done.file" : "save.done.recipe", { name: file.value.name })}</p> : null}
      <footer class="dialog-foot">
        <Button label={t(over ? "close" : "cancel")} onClick={close} />
        <Button id="save-now" kind="primary" label={t(over ? "save.again" : "save.now")} disabled={!whole || busy.value} onClick={() => void save()} />
      </footer>
    </Dialog>
  );
}

const Shown = ({ started, over }: { started: Started; over: boolean }) => (
  <>
    <p class="label">{t(over ? "save.ran" : "save.command")}</p>
    <Command text={started.command} label={t("command")} />
    {started.step ? (
      <>
        <p class="label">{t("save.step")}</p>
        <Command text={started.step} label={t("save.step")} />
      </>
    ) : null}
    {started.says.map((own, n) => <p key={n} class="hint">{said(own)}</p>)}
  </>
);

function FileFields({ target, onChange }: { target: FileTarget; onChange: (next: FileTarget) => void }) {
  return (
    <div class="fields">
      <label class="field wide"><span>{t("save.name")}</span>
        <input id="save-name" type="text" value={target.name} spellcheck={false} onInput={event => onChange({ ...target, name: event.currentTarget.value })} />
      </label>
      <label class="field"><span>{t("save.folder")}</span>
        <select value={target.root} onChange={event => onChange({ ...target, root: event.currentTarget.value })}>
          {(server.value?.roots ?? []).map(root => <option key={root.id} value={root.id}>{root.name}</option>)}
        </select>
      </label>
      <label class="field"><span>{t("save.dtype")}</span>
        <select value={target.dtype ?? "fp16"} onChange={event => {
          dtype.value = event.currentTarget.value as "fp16"; // the picture behind this dialog is drawn for it
          onChange({ ...target, dtype: dtype.value });
        }}>
          {(["fp16", "bf16", "fp32"] as const).map(name => <option key={name} value={name}>{t(`dtype.${name}`)}</option>)}
        </select>
      </label>
      <label class="check"><input type="checkbox" checked={target.force ?? false} onChange={event => onChange({ ...target, force: event.currentTarget.checked })} /><span>{t("save.force")}</span></label>
    </div>
  );
}

function RecipeFields({ target, onChange }: { target: RecipeTarget; onChange: (fields: Partial<RecipeTarget>) => void }) {
  const detail = useSignal<RecipeDetail | null>(null);
  useEffect(() => {
    if (!target.recipe) return;
    detail.value = null;
    return asking(() => get<RecipeDetail>(`api/recipes/${encodeURIComponent(target.recipe)}`), got => {
      detail.value = got;
      const names = Object.keys(got.vectors);
      if (names.length > 0 && !names.includes(target.vector)) onChange({ vector: names[0]! });
    });
  }, [target.recipe]);
  if (recipes.value.length === 0) return <p class="hint">{t("save.norecipe")}</p>;
  return (
    <div class="fields">
      <label class="field"><span>{t("save.recipe")}</span>
        <select value={target.recipe} onChange={event => onChange({ recipe: event.currentTarget.value, vector: "" })}>
          {recipes.value.map(one => <option key={one.id} value={one.id}>{one.path}</option>)}
        </select>
      </label>
      <label class="field"><span>{t("save.vector")}</span>
        <select value={target.vector} onChange={event => onChange({ vector: event.currentTarget.value })}>
          {Object.keys(detail.value?.vectors ?? {}).map(name => <option key={name} value={name}>{name}</option>)}
        </select>
      </label>
      <label class="field"><span>{t("save.term")}</span>
        <select value={String(target.term ?? 0)} onChange={event => onChange({ term: Number(event.currentTarget.value) })}>
          {desk.value.layers.map((layer, n) => <option key={layer.key} value={String(n)}>{layer.name}</option>)}
        </select>
      </label>
      {detail.value?.problem ? <p class="failure"><Icon name="warn" /> {said(detail.value.problem)}</p> : null}
    </div>
  );
}
