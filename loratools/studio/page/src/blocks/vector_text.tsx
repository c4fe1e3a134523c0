// A layer's vector as text, both ways: a preset's name, bare numbers or a line for LoRA Block Weight goes in; all of
// them come out. The server reads and writes them, by the same code as the command line.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { asking } from "../api/asking";
import { failureOf, post } from "../api/http";
import type { VectorAnswer } from "../api/types";
import { groupsOf, setVector } from "../state/choose";
import { t } from "../state/i18n";
import { catalogs, lorasById } from "../state/studio";
import { desk, effectiveVector, selected, type Layer } from "../state/stack";
import { Button, copyText, Icon } from "../ui/controls";

const REST = 250;
const FORMS = ["short", "numbers", "lbw"] as const;

const weightsOf = (layer: Layer): Record<string, number> =>
  effectiveVector(layer, groupsOf(layer).flatMap(({ blocks }) => blocks));

export function VectorText() {
  const layer = desk.value.layers[selected.value];
  const family = layer ? lorasById.value.get(layer.lora)?.family : undefined;
  const answer = useSignal<VectorAnswer | null>(null);
  const fault = useSignal<{ sentence: string; remedy: string | null } | null>(null);
  const form = useSignal<(typeof FORMS)[number]>("short");
  const typed = useSignal<string | null>(null);
  const box = useRef<HTMLInputElement>(null);
  const weights = layer ? weightsOf(layer) : {};
  const key = JSON.stringify([family, weights]);
  useEffect(() => {
    if (!family || Object.keys(weights).length === 0) return;
    if (document.activeElement !== box.current) typed.value = fault.value = null; // a fault of what is no longer there
    return asking(() => post<VectorAnswer>("api/vector", { weights, family }), got => (answer.value = got),
      () => (answer.value = null), REST); // the fields stay empty; every button that matters says its own failure
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
      answer.value = got;
      fault.value = null;
      typed.value = null;
      setVector(layer, got.weights);
    } catch (thrown) {
      fault.value = failureOf(thrown);
    }
  };
  return (
    <div class="vector-text">
      <Presets layer={layer} family={family} current={answer.value?.preset ?? null} />
      <select aria-label={t("vector.form")} value={form.value} onChange={event => (form.value = event.currentTarget.value as "short")}>
        {FORMS.map(name => <option key={name} value={name}>{t(`vector.${name}`)}</option>)}
      </select>
      <input ref={box} id="vector" type="text" spellcheck={false} autocomplete="off" aria-label={t("vector.text")} title={t("vector.help")}
        aria-invalid={fault.value !== null} placeholder={answer.value?.texts[form.value] === "" ? t("vector.norules") : ""} value={typed.value ?? answer.value?.texts[form.value] ?? ""}
        onInput={event => (typed.value = event.currentTarget.value)}
        onBlur={event => void take(event.currentTarget.value)}
        onKeyDown={event => {
          if (event.key === "Enter") void take(event.currentTarget.value);
          if (event.key === "Escape") typed.value = fault.value = null;
        }} />
      <Button label={t("copy")} icon="copy" bare onClick={() => void copyText(answer.value?.texts[form.value] ?? "")} />
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
      {presets.map(preset => <option key={preset.name} value={preset.name}>{preset.name}</option>)}
    </select>
  );
}
