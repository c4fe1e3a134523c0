// Small parts that all pages share.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { t } from "../state/i18n";
import { notify } from "../state/notices";

const PATHS = {
  plus: "M12 5v14M5 12h14", close: "M6 6l12 12M18 6L6 18", undo: "M9 7L4 12l5 5M4 12h11a5 5 0 010 10h-3",
  redo: "M15 7l5 5-5 5M20 12H9a5 5 0 000 10h3", up: "M12 19V5M6 11l6-6 6 6", down: "M12 5v14M6 13l6 6 6-6",
  check: "M5 12.5l4.5 4.5L19 7.500", stop: "M7 7h10v10H7z", pause: "M8 5v14M16 5v14", play: "M8 5l11 7-11 7z",
  warn: "M12 4l9 16H3zM12 10v4M12 17v.5", copy: "M9 9h11v11H9zM15 9V4H4v11h5", clock: "M12 3a9 9 0 100 18 9 9 0 000-18M12 7v5l3 2",
  star: "M12 4l2.5 5.200 5.5.8-4 4 1 5.700-5-2.700-5 2.700 1-5.700-4-4 5.5-.8z", flag: "M6 21V4h11l-2 4 2 4H6",
  heat: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z", link: "M10 14a4 4 0 005.700 0l3-3a4 4 0 00-5.700-5.700l-1 1M14 10a4 4 0 00-5.700 0l-3 3a4 4 0 005.700 5.700l1-1",
} as const;
export type IconName = keyof typeof PATHS;

export const Icon = ({ name }: { name: IconName }) => (
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path d={PATHS[name]} />
  </svg>
);

interface ButtonProps {
  label: string;
  icon?: IconName;
  /** Show the icon alone; the label is its tooltip and its name. */
  bare?: boolean;
  kind?: "primary" | "plain" | "danger";
  pressed?: boolean;
  disabled?: boolean;
  small?: boolean;
  id?: string;
  title?: string;
  onClick: () => void;
}
export const Button = (props: ButtonProps) => (
  <button
    type="button"
    id={props.id}
    class={`button ${props.kind ?? "plain"}${props.bare ? " bare" : ""}${props.small ? " small" : ""}`}
    title={props.title ?? (props.bare ? props.label : undefined)}
    aria-label={props.bare ? props.label : undefined}
    aria-pressed={props.pressed}
    disabled={props.disabled}
    onClick={props.onClick}
  >
    {props.icon ? <Icon name={props.icon} /> : null}
    {props.bare ? null : <span>{props.label}</span>}
  </button>
);

interface DialogProps {
  title: string;
  id?: string;
  wide?: boolean;
  onClose: () => void;
  children: ComponentChildren;
}
/** A dialog of the browser's own: the focus stays in it, Escape closes it, and the focus goes back where it was. */
export function Dialog({ title, id, wide, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const gone = useRef(false);
  const outside = useRef(false);
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => {
      gone.current = true;
      shown?.close();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      id={id}
      class={wide ? "card wide" : "card"}
      aria-label={title}
      onClose={() => {
        if (!gone.current) onClose(); // Escape: a browser may close it without asking
      }}
      onPointerDown={event => void (outside.current = event.target === dialog.current && !within(dialog.current, event))}
      onClick={event => {
        const pressed = outside.current;
        outside.current = false;
        // the backdrop, and not the dialog's own edge, nor the end of a selection that began in a field
        if (pressed && event.target === dialog.current && !within(dialog.current, event)) onClose();
      }}
    >
      <header class="dialog-head">
        <h2>{title}</h2>
        <Button label={t("close")} icon="close" bare onClick={onClose} />
      </header>
      {children}
    </dialog>
  );
}

function within(box: Element | null, { clientX, clientY }: { clientX: number; clientY: number }): boolean {
  if (!box) return false;
  const { left, right, top, bottom } = box.getBoundingClientRect();
  return left <= clientX && clientX <= right && top <= clientY && clientY <= bottom;
}

/** Put a text onto the clipboard, and say whether that went: a page that is not reached by https or localhost may not. */
export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notify("done", t("copied"));
  } catch {
    notify("error", t("copy.refused"), t("copy.refused.remedy"));
  }
}

/** What the command line would run, or the recipe's step, ready to be copied. */
export function Command({ text, label }: { text: string; label: string }) {
  return (
    <div class="command">
      <pre tabIndex={0} aria-label={label}>{text}</pre>
      <Button label={t("copy")} icon="copy" bare small onClick={() => void copyText(text)} />
    </div>
  );
}

export function Details({ title, open = false, children }: { title: string; open?: boolean; children: ComponentChildren }) {
  const [shown, setShown] = useState(open);
  return (
    <details class="details" open={shown} onToggle={event => setShown(event.currentTarget.open)}>
      <summary>{title}</summary>
      {shown ? children : null}
    </details>
  );
}

export const Meter = ({ part, label }: { part: number | null; label: string }) => (
  <div
    class={part === null ? "meter unknown" : "meter"}
    role="progressbar"
    aria-label={label}
    aria-valuemin={0}
    aria-valuemax={100}
    aria-valuenow={part === null ? undefined : Math.round(100 * part)}
  >
    <div style={{ transform: `scaleX(${part ?? 0.3})` }} />
  </div>
);
