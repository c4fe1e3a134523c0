// A layer's vector as text, both ways: a preset's name, bare numbers or a line for LoRA Block Weight goes in; all of
// them come out. The server reads and writes them, by the same code as the command line.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { failureOf, post } from "../api/http";
import type { VectorAnswer } from "../api/types";
import { groupsOf, setVector } from "../state/choose";
import { t } from "../state/i18n";
import { notify } from "../state/notices";
import { catalogs, lorasById } from "../state/studio";
import { desk, effective, selected, type Layer } from "../state/stack";
import { Button, Icon } from "../ui/controls";

const REST = 250;
const FORMS = ["short", "numbers", "lbw"] as const;

const weightsOf = (layer: Layer): Record<string, number> =>
  Object.fromEntries(groupsOf(layer).flatMap(({ blocks }) => blocks.map(block => [block, effective(layer, block)])));

export function VectorText() {
  const layer = desk.value.layers[selected.value];
  const family = layer ? lorasById.value.get(layer.lora)?.family : undefined;
  const answer = useSignal<VectorAnswer | null>(null);
  const fault = useSignal<{ sentence: string; remedy: string | null } | null>(null);
  const form = useSignal<(typeof FORMS)[number]>("short");
  const typed = useSignal<string | null>(null);
  const weights = layer ? weightsOf(layer) : {};
  const key = JSON.stringify([family, weights]);
  useEffect(() => {
    if (!family || Object.keys(weights).length === 0) return;
    const timer = setTimeout(() => {
      post<VectorAnswer>("api/vector", { weights, family }).then(
        got => {
          answer.value = got;
          typed.value = null;
          fault.value = null;
        },
        () => (answer.value = null), // the fields stay empty; every button that matters says its own failure
      );
    }, REST);
    return () => clearTimeout(timer);
  }, [key]);
  if (!layer || !family) return null;
  const take = async (text: string): Promise<void> => {
    if (text.trim() === "" || text === answer.value?.texts[form.value]) {
      typed.value = null;
      fault.value = null;
      return;
    }
    try {
      const got = await post<VectorAnswer>("api/vector", { text, family });
      fault.value = null;
      typed.value = null;
      setVector(layer, got.weights);
    } catch (thrown) {
      fault.value = failureOf(thrown);
    }
  };
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(answer.value?.texts[form.value] ?? "").catch(() => undefined);
    notify("done", t("copied"));
  };
  return (
    <div class="vector-text">
      <Presets layer={layer} family={family} current={answer.value?.preset ?? null} />
      <select aria-label={t("vector.form")} value={form.value} onChange={event => (form.value = event.currentTarget.value as "short")}>
        {FORMS.map(name => <option key={name} value={name}>{t(`vector.${name}`)}</option>)}
      </select>
      <input id="vector" type="text" spellcheck={false} autocomplete="off" aria-label={t("vector.text")} title={t("vector.help")}
        aria-invalid={fault.value !== null} value={typed.value ?? answer.value?.texts[form.value] ?? ""}
        onInput={event => (typed.value = event.currentTarget.value)}
        onBlur={event => void take(event.currentTarget.value)}
        onKeyDown={event => {
          if (event.key === "Enter") void take(event.currentTarget.value);
          if (event.key === "Escape") typed.value = fault.value = null;
        }} />
      <Button label={t("copy")} icon="copy" bare onClick={() => void copy()} />
      {fault.value ? <p class="failure" role="alert"><Icon name="warn" /> {fault.value.sentence} {fault.value.remedy ?? ""}</p> : null}
    </div>
  );
}

function Presets({ layer, family, current }: { layer: Layer; family: string; current: string | null }) {
  const presets = catalogs.value.get(family)?.presets ?? [];
  return (
    <select id="preset" aria-label={t("preset")} value={current ?? ""} onChange={event => {
      const preset = presets.find(one => one.name === event.currentTarget.value);
      if (preset) setVector(layer, preset.weights);
    }}>
      <option value="">{current && !presets.some(one => one.name === current) ? current : t("preset.own")}</option>
      {presets.map(preset => <option key={preset.name} value={preset.name} title={preset.help}>{preset.name}</option>)}
    </select>
  );
}
