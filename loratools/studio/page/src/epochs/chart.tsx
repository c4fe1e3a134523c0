// A line chart on a canvas. Lines differ by their dash and their marks as well, and a table says the same in words.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { shownTheme } from "../state/theme";
import { language, t } from "../state/i18n";
import { range, smooth, thinned, ticks, type Points } from "./curve";

export interface Series {
  name: string;
  points: Points;
  /** Draw it smoothed over its own faint values. */
  smoothed?: boolean;
  /** Mark every point; the line is dashed. */
  marked?: boolean;
}
interface ChartProps {
  title: string;
  series: readonly Series[];
  /** A place to mark, such as the recommended epoch. */
  mark?: { at: number; label: string } | undefined;
  across: string;
}

const LEFT = 46;
const BOTTOM = 24;
const TOP = 10;
const RIGHT = 12;

export function Chart({ title, series, mark, across }: ChartProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useSignal(0);
  const pointed = useSignal<number | null>(null);
  const shown = series.filter(one => one.points.length > 0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => (width.value = Math.round(entry?.contentRect.width ?? 0)));
    observer.observe(canvas.current!.parentElement!);
    return () => observer.disconnect();
  }, []);
  const xs = shown.flatMap(one => one.points.map(([at]) => at));
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const left = low === high ? low - 1 : low;
  const right = low === high ? high + 1 : high;
  useEffect(() => {
    if (canvas.current && width.value > 0) draw(canvas.current, width.value, shown, left, right, mark, pointed.value);
  });
  void [shownTheme.value, width.value]; // colours and size are read anew
  const near = pointed.value === null ? null : shown.map(one => ({ name: one.name, point: nearest(one.points, pointed.value!) }));
  return (
    <figure class="chart">
      <figcaption>
        <b>{title}</b>
        {shown.map((one, n) => (
          <span class="legend" key={one.name}>
            <svg width="26" height="10" aria-hidden="true"><line x1="1" y1="5" x2="25" y2="5" class={`line${n}`} stroke-dasharray={one.marked ? "5 3" : undefined} />{one.marked ? <rect x="10" y="2" width="6" height="6" class={`dot${n}`} /> : null}</svg>
            {one.name}
          </span>
        ))}
        <span class="reading" aria-live="off">{near?.map(({ name, point }) => (point ? `${across} ${point[0]}: ${name} ${short(point[1])}` : "")).join(" · ")}</span>
      </figcaption>
      <div class="plot">
        <canvas ref={canvas} role="img" aria-label={`${title}. ${shown.map(one => `${one.name}: ${short(one.points[0]![1])} → ${short(one.points.at(-1)![1])}`).join(", ")}`}
          onPointerMove={event => {
            const part = (event.offsetX - LEFT) / Math.max(1, width.value - LEFT - RIGHT);
            pointed.value = left + Math.min(1, Math.max(0, part)) * (right - left);
          }}
          onPointerLeave={() => (pointed.value = null)} />
      </div>
      {shown.length === 0 ? <p class="hint">{t("chart.empty")}</p> : null}
    </figure>
  );
}

export const short = (value: number): string =>
  value.toLocaleString(language.value, { maximumSignificantDigits: 4 });

export function nearest(points: Points, at: number): readonly [number, number] | undefined {
  let [from, to] = [0, points.length - 1];
  while (to - from > 1) {
    const middle = (from + to) >> 1;
    if (points[middle]![0] <= at) from = middle;
    else to = middle;
  }
  const [one, other] = [points[from], points[to]];
  if (!one || !other) return one ?? other;
  return Math.abs(one[0] - at) <= Math.abs(other[0] - at) ? one : other;
}

function draw(
  canvas: HTMLCanvasElement, width: number, series: readonly Series[], left: number, right: number,
  mark: ChartProps["mark"], pointed: number | null,
): void {
  const height = Math.min(240, Math.max(150, Math.round(width * 0.34)));
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  if (!pen || series.length === 0) return;
  pen.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  const [low, high] = range(series.flatMap(one => one.points.map(([, value]) => value)));
  const x = (at: number): number => LEFT + ((at - left) / (right - left)) * (width - LEFT - RIGHT);
  const y = (value: number): number => TOP + ((high - value) / (high - low)) * (height - TOP - BOTTOM);
  pen.font = `12px ${style.fontFamily}`;
  pen.fillStyle = color("--grey");
  pen.strokeStyle = color("--line");
  pen.lineWidth = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const value of ticks(low, high, 4)) {
    const at = Math.round(y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(LEFT, at);
    pen.lineTo(width - RIGHT, at);
    pen.stroke();
    pen.fillText(short(value), LEFT - 6, at);
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const at of ticks(left, right, Math.max(2, Math.floor(width / 90)))) pen.fillText(short(at), x(at), height - BOTTOM + 7);
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, TOP - 4, width - LEFT - RIGHT + 6, height - TOP - BOTTOM + 8);
  pen.clip();
  if (mark) vertical(pen, x(mark.at), height, color("--good"), mark.label);
  series.forEach((one, n) => {
    const ink = color(n === 0 ? "--accent" : "--second");
    if (one.smoothed) {
      pen.globalAlpha = 0.28;
      line(pen, thinned(one.points, 2 * width), x, y, ink, 1);
      pen.globalAlpha = 1;
      line(pen, thinned(smooth(one.points, 0.97), 2 * width), x, y, ink, 2);
    } else {
      pen.setLineDash(one.marked ? [6, 4] : []);
      line(pen, one.points, x, y, ink, 2);
      pen.setLineDash([]);
    }
    if (one.marked) {
      pen.fillStyle = ink;
      for (const [at, value] of one.points) pen.fillRect(x(at) - 3, y(value) - 3, 6, 6);
    }
  });
  if (pointed !== null) vertical(pen, x(pointed), height, color("--grey"), "");
  pen.restore();
}

function line(pen: CanvasRenderingContext2D, points: Points, x: (at: number) => number, y: (value: number) => number, ink: string, width: number): void {
  pen.strokeStyle = ink;
  pen.lineWidth = width;
  pen.lineJoin = "round";
  pen.beginPath();
  for (const [at, value] of points) pen.lineTo(x(at), y(value));
  pen.stroke();
}

function vertical(pen: CanvasRenderingContext2D, at: number, height: number, ink: string, label: string): void {
  pen.strokeStyle = ink;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(Math.round(at) + 0.5, TOP - 4);
  pen.lineTo(Math.round(at) + 0.5, height - BOTTOM);
  pen.stroke();
  if (!label) return;
  pen.fillStyle = ink;
  pen.textAlign = "left";
  pen.textBaseline = "top";
  pen.fillText(label, at + 5, TOP - 2);
}
