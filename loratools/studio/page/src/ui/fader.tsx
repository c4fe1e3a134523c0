// A slider of one block: drag (shift: fine), double click: 1, arrows, M and S. A slider to a screen reader.
import { useRef } from "preact/hooks";
import { begin, commit, rounded } from "../state/stack";
import { keyOf } from "./keys";

export interface FaderProps {
  label: string;
  value: number;
  min: number;
  max: number;
  /** What a double click sets. */
  rest: number;
  upright: boolean;
  dim?: boolean;
  text?: string;
  onChange: (value: number) => void;
  onKey?: (key: string) => boolean;
}

export const STEP = 0.05;
export const FINE = 0.01;

/** Where a value lies between min and max, 0 to 1. */
export const partOf = (value: number, min: number, max: number): number =>
  Math.min(1, Math.max(0, (value - min) / (max - min)));

/** What a key makes of a value, or null where it means nothing. */
export function keyed(key: string, shift: boolean, value: number, min: number, max: number): number | null {
  const step = shift ? FINE : STEP;
  const by: Record<string, number> = {
    ArrowUp: step, ArrowRight: step, ArrowDown: -step, ArrowLeft: -step, PageUp: 0.25, PageDown: -0.25,
  };
  if (key in by) return rounded(Math.min(max, Math.max(min, value + by[key]!)));
  return { Home: min, End: max, "0": 0, "1": 1, Delete: 1, Backspace: 1 }[key] ?? null;
}

/** What a movement of the pointer makes of a value: the length of the track is the whole range; shift is a fifth. */
export function dragged(from: number, part: number, shift: boolean, min: number, max: number): number {
  const moved = from + part * (max - min) * (shift ? 0.2 : 1);
  return Math.min(max, Math.max(min, rounded(moved, FINE)));
}

export function Fader(props: FaderProps) {
  const { label, value, min, max, rest, upright, dim, text, onChange, onKey } = props;
  // the scale of a drag is that of its beginning: a group that is drawn past its end widens the scale under the hand
  const hand = useRef<{ id: number; at: number; value: number; shift: boolean; min: number; max: number } | null>(null);
  const along = (event: PointerEvent): number => (upright ? -event.clientY : event.clientX);
  const zero = partOf(0, min, max);
  const part = partOf(value, min, max);
  const low = Math.min(zero, part);
  const size = Math.abs(part - zero);
  const fill = upright
    ? { bottom: `${100 * low}%`, height: `${100 * size}%` }
    : { left: `${100 * low}%`, width: `${100 * size}%` };
  const place = (at: number) => (upright ? { bottom: `${100 * at}%` } : { left: `${100 * at}%` });
  const end = (): void => {
    if (!hand.current) return;
    hand.current = null;
    commit();
  };
  return (
    <div
      class={`fader ${upright ? "upright" : "flat"}${dim ? " dim" : ""}${value === rest ? " resting" : ""}`}
      role="slider"
      tabIndex={0}
      aria-label={label}
      aria-orientation={upright ? "vertical" : "horizontal"}
      aria-valuemin={min}
      aria-valuemax={max}
      aria-valuenow={value}
      aria-valuetext={text ?? String(value)}
      onPointerDown={event => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        hand.current = { id: event.pointerId, at: along(event), value, shift: event.shiftKey, min, max };
        begin();
      }}
      onPointerMove={event => {
        const held = hand.current;
        if (!held || event.pointerId !== held.id) return;
        if (held.shift !== event.shiftKey) { // the scale changes here, not the value
          Object.assign(held, { at: along(event), value, shift: event.shiftKey });
          return;
        }
        const box = event.currentTarget.getBoundingClientRect();
        const length = upright ? box.height : box.width;
        const next = dragged(held.value, (along(event) - held.at) / length, held.shift, held.min, held.max);
        if (next !== value) onChange(next);
      }}
      onPointerUp={end}
      onPointerCancel={end}
      onLostPointerCapture={end}
      onDblClick={() => onChange(rest)}
      onKeyDown={event => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const next = keyed(event.key, event.shiftKey, value, min, max);
        if (next !== null) {
          begin(); // a key that is held is one step of undo, as a drag is
          onChange(next);
        }
        if (next !== null || onKey?.(keyOf(event))) event.preventDefault();
      }}
      onKeyUp={commit}
      onBlur={commit}
    >
      <div class="track">
        <div class="tick zero" style={place(zero)} />
        <div class="tick one" style={place(partOf(1, min, max))} />
        <div class="fill" style={fill} />
      </div>
      <div class="knob" style={place(part)} />
    </div>
  );
}
