// Blocks: what is in the stack, what it looks like, and a fader for each block of what is selected.
import { useEffect } from "preact/hooks";
import { explained } from "../state/explain";
import { said, t } from "../state/i18n";
import { href } from "../state/route";
import { loras, runs } from "../state/studio";
import { desk, redo, undo } from "../state/stack";
import { Button, Icon } from "../ui/controls";
import { keyOf } from "../ui/keys";
import { making, Making } from "../queue/making";
import { Faders } from "./faders";
import { flip, Memory } from "./memory";
import { Pictures } from "./pictures";
import { Rules } from "./rules";
import { SaveDialog, saving } from "./save_dialog";
import { StackList } from "./stack_list";
import { Symptoms } from "./symptoms";
import { VectorText } from "./vector_text";

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.matches("input, textarea, select") || target.closest("dialog") !== null);

function onKey(event: KeyboardEvent): void {
  if (typing(event.target)) return;
  const key = keyOf(event);
  if ((event.ctrlKey || event.metaKey) && key === "z") {
    if (event.shiftKey) redo();
    else undo();
  } else if ((event.ctrlKey || event.metaKey) && key === "y") redo();
  else if ((event.ctrlKey || event.metaKey) && key === "s" && desk.peek().layers.length > 0) saving.value = true;
  else if (!event.ctrlKey && !event.metaKey && !event.altKey && key === "x") flip();
  else return;
  event.preventDefault();
}

export function BlocksPage() {
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const empty = desk.value.layers.length === 0;
  return (
    <div class={empty ? "blocks empty" : "blocks"}>
      <div class="side">
        <StackList />
        <Symptoms />
      </div>
      {empty ? <Empty /> : (
        <div class="bench">
          <Pictures />
          <section class="panel mixing" aria-label={t("mixing")}>
            <header>
              <h2>{t("mixing")}</h2>
              <Memory />
              <Button id="save" kind="primary" label={t("save")} onClick={() => (saving.value = true)} />
            </header>
            <VectorText />
            <Faders />
            <Rules />
            {explained.value?.warnings.map((own, n) => <p key={n} class="failure"><Icon name="warn" /> {said(own)}</p>)}
            <p class="hint">{t("mixing.help")}</p>
          </section>
        </div>
      )}
      {saving.value ? <SaveDialog /> : null}
    </div>
  );
}

function Empty() {
  if ((runs.value ?? []).length === 0 && making().length > 0) return <Making />;
  const nothing = loras.value !== null && loras.value.length === 0;
  return (
    <div class="bench start">
      <h2>{t(nothing ? "start.nothing" : "start.title")}</h2>
      <p>{t(nothing ? "start.nothing.help" : "start.help")}</p>
      {(runs.value ?? []).length > 0 ? <a class="button primary" href={href("epochs")}>{t("start.epochs")}</a> : null}
    </div>
  );
}
