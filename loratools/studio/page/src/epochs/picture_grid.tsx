// A table of pictures of any size: only what is in sight is in the page, one cell has the focus, arrows move it.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { pictureUrl } from "../api/http";
import { t } from "../state/i18n";
import { keyOf } from "../ui/keys";
import { moved, span, tabStop } from "./window";

export interface GridPicture {
  key: string;
  picture: string;
  title: string;
  stars?: number;
}
export interface GridRow {
  key: string;
  label: string;
  note?: string;
  extra?: ComponentChildren;
}
interface GridProps {
  label: string;
  rows: readonly GridRow[];
  columns: readonly string[];
  at: (row: number, column: number) => GridPicture | null;
  /** A thumbnail's width, and its height for each pixel of that. */
  side: number;
  aspect: number;
  onOpen: (row: number, column: number) => void;
  onKey?: (key: string, row: number, column: number) => boolean;
}

const GAP = 6;
const HEAD = 34;
const STUB = 148;

export function PictureGrid({ label, rows, columns, at, side, aspect, onOpen, onKey }: GridProps) {
  const box = useRef<HTMLDivElement>(null);
  const seen = useSignal({ top: 0, left: 0, width: 1200, height: 700 });
  const focus = useSignal<[number, number]>([0, 0]);
  const [wide, high] = [side + GAP, Math.round(side * aspect) + GAP];
  useEffect(() => {
    const shown = box.current!;
    const look = (): void => {
      const { scrollTop: top, scrollLeft: left, clientWidth: width, clientHeight: height } = shown;
      seen.value = { top, left, width, height };
    };
    let asked = false;
    const later = (): void => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        look();
      });
    };
    look();
    shown.addEventListener("scroll", later, { passive: true });
    const observer = new ResizeObserver(later);
    observer.observe(shown);
    return () => {
      shown.removeEventListener("scroll", later);
      observer.disconnect();
    };
  }, []);
  const down = span(seen.value.top - HEAD, seen.value.height, high, rows.length);
  const across = span(seen.value.left - STUB, seen.value.width, wide, columns.length);
  const go = (row: number, column: number): void => {
    focus.value = [row, column];
    const shown = box.current!;
    const [x, y] = [STUB + column * wide, HEAD + row * high];
    if (y - HEAD < shown.scrollTop) shown.scrollTop = y - HEAD;
    else if (y + high > shown.scrollTop + shown.clientHeight) shown.scrollTop = y + high - shown.clientHeight;
    if (x - STUB < shown.scrollLeft) shown.scrollLeft = x - STUB;
    else if (x + wide > shown.scrollLeft + shown.clientWidth) shown.scrollLeft = x + wide - shown.clientWidth;
    requestAnimationFrame(() => requestAnimationFrame(() =>
      shown.querySelector<HTMLElement>(`[data-at="${row},${column}"]`)?.focus({ preventScroll: true })));
  };
  const has = (row: number, column: number): boolean => at(row, column) !== null;
  const key = (event: KeyboardEvent): void => {
    const [row, column] = focus.value;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = moved(event.key, row, column, rows.length, columns.length, has);
    if (to) go(...to);
    else if (event.key === "Enter" || event.key === " ") onOpen(row, column);
    else if (!onKey?.(keyOf(event), row, column)) return;
    event.preventDefault();
  };
  const line: number[] = [];
  for (let n = down.from; n < down.to; n++) line.push(n);
  const pillar: number[] = [];
  for (let n = across.from; n < across.to; n++) pillar.push(n);
  const [focusRow, focusColumn] = tabStop(focus.value, line, pillar, has) ?? [-1, -1];
  return (
    <div ref={box} class="picture-grid" role="grid" aria-label={label} aria-rowcount={rows.length + 1} aria-colcount={columns.length + 1} onKeyDown={key}>
      <div class="whole" style={{ width: STUB + columns.length * wide, height: HEAD + rows.length * high }}>
        <div class="grid-head" role="row" aria-rowindex={1} style={{ height: HEAD }}>
          {pillar.map(column => (
            <span key={column} role="columnheader" aria-colindex={column + 2} title={columns[column]} style={{ left: STUB + column * wide, width: side }}>{columns[column]}</span>
          ))}
        </div>
        {line.map(row => (
          <div key={rows[row]!.key} class="grid-row" role="row" aria-rowindex={row + 2} style={{ top: HEAD + row * high, height: high }}>
            <div class="grid-stub" role="rowheader" aria-colindex={1} style={{ width: STUB - GAP }}>
              <b>{rows[row]!.label}</b>
              {rows[row]!.note ? <small title={rows[row]!.note}>{rows[row]!.note}</small> : null}
              {rows[row]!.extra}
            </div>
            {pillar.map(column => {
              const cell = at(row, column);
              if (!cell) return null;
              return (
                <button key={column} type="button" role="gridcell" aria-colindex={column + 2} class="grid-cell" data-at={`${row},${column}`} data-key={cell.key}
                  tabIndex={row === focusRow && column === focusColumn ? 0 : -1} aria-label={cell.title + (cell.stars ? `, ${t("stars", { stars: cell.stars })}` : "")}
                  style={{ left: STUB + column * wide, width: side, height: high - GAP }}
                  onFocus={() => (focus.value = [row, column])} onClick={() => onOpen(row, column)}>
                  <img src={pictureUrl(cell.picture, 256)} alt="" decoding="async" width={side} height={high - GAP} />
                  {cell.stars ? <span class="stars">{cell.stars}★</span> : null}
                </button>
              );
            })}
          </div>
        ))}
      </div>
    </div>
  );
}
