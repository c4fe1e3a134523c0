// Fields whose text is taken when it is whole: with Enter, or when the focus leaves. What is being typed stays, however
// often the page around it is drawn anew.
import { useSignal } from "@preact/signals";

/** What a person typed as a number: a comma is a point, a long minus a minus. Null for what is none. */
export function numberIn(text: string): number | null {
  const word = text.trim().replace(",", ".").replace("\u2212", "-");
  const value = Number(word);
  return word === "" || !Number.isFinite(value) ? null : value;
}

/** A number within its bounds, in whole steps, without dust. */
export function bounded(value: number, min: number, max: number, step: number): number {
  const whole = Math.min(max, Math.max(min, Math.round(value / step) * step));
  return Number(whole.toFixed(4));
}

interface DraftProps {
  /** What stands there while nothing is being typed. */
  shown: string;
  /** Is given what was typed, where that is another text than the one that stood there. */
  onTake: (text: string) => void;
  label?: string;
  id?: string;
  class?: string;
  placeholder?: string;
  inputMode?: "decimal" | "numeric";
  /** So many lines; Enter begins a new one. */
  rows?: number;
}
export function DraftField({ shown, onTake, label, id, class: kind, placeholder, inputMode, rows }: DraftProps) {
  const typed = useSignal<string | null>(null);
  const take = (box: HTMLInputElement | HTMLTextAreaElement): void => {
    const text = box.value;
    typed.value = null;
    box.value = shown;
    if (text !== shown) onTake(text);
  };
  const parts = {
    id, class: kind, placeholder, inputMode, "aria-label": label, title: label, value: typed.value ?? shown,
    onInput: (event: { currentTarget: HTMLInputElement | HTMLTextAreaElement }) => void (typed.value = event.currentTarget.value),
    onChange: (event: { currentTarget: HTMLInputElement | HTMLTextAreaElement }) => take(event.currentTarget),
    onBlur: (event: { currentTarget: HTMLInputElement | HTMLTextAreaElement }) => take(event.currentTarget),
  };
  if (rows) return <textarea rows={rows} {...parts} />;
  return (
    <input type="text" {...parts}
      onFocus={event => kind === "number" && event.currentTarget.select()}
      onKeyDown={event => {
        if (event.key === "Enter") take(event.currentTarget);
        if (event.key !== "Escape" || typed.value === null) return;
        event.preventDefault(); // it takes back what was typed; a dialog around it stays open
        typed.value = null;
        event.currentTarget.value = shown;
      }} />
  );
}

interface NumberProps {
  label: string;
  value: number;
  min: number;
  max: number;
  step?: number;
  id?: string;
  onChange: (value: number) => void;
}
/** A number; text that is none is put back. */
export function NumberField({ label, value, min, max, step = 0.0001, id, onChange }: NumberProps) {
  const take = (text: string): void => {
    const next = numberIn(text);
    const clean = next === null ? value : bounded(next, min, max, step);
    if (clean !== value) onChange(clean);
  };
  return <DraftField id={id} class="number" inputMode="decimal" label={label} shown={String(Number(value.toFixed(4)))} onTake={take} />;
}

interface OptionalProps extends Omit<NumberProps, "value" | "onChange" | "label"> {
  value: number | null;
  placeholder: string;
  onChange: (value: number | null) => void;
}
/** A number, or nothing where the field is empty. */
export function OptionalNumber({ value, min, max, step = 0.0001, placeholder, onChange }: OptionalProps) {
  const take = (text: string): void => {
    const next = numberIn(text);
    if (next !== null) onChange(bounded(next, min, max, step));
    else if (text.trim() === "") onChange(null);
  };
  return <DraftField class="number" inputMode={step === 1 ? "numeric" : "decimal"} placeholder={placeholder} shown={value === null ? "" : String(value)} onTake={take} />;
}
