// A grid on disk: rows by prompts and seeds down, weights across; stars, blind pairs, and "use this epoch".
import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { asking, inTurn } from "../api/asking";
import { get, post } from "../api/http";
import type { GridCell, GridDetail, MarkAnswer } from "../api/types";
import { nameOf } from "../state/choose";
import { t } from "../state/i18n";
import { attempt } from "../state/notices";
import { grids, loras, runs } from "../state/studio";
import { Button, Details } from "../ui/controls";
import { Large } from "./large";
import { takeEpoch } from "./take";
import { Pairs, Standings } from "./pairs";
import { PictureGrid, type GridPicture, type GridRow } from "./picture_grid";
import { moved } from "./window";

/** A prompt and a seed. */
type Shot = [number, number];
export interface Lines {
  rows: { row: number; shot: Shot | null }[];
  columns: { weight: number; shot: Shot | null }[];
  at: Map<string, GridCell>;
}
const FEW = 2; // weights: prompts and seeds go beside them, so that the table is not a single thin column

/** Cells by their place. Down: the grid's rows at each prompt and seed; across: weights, and with few of them the rest. */
export function lined(detail: GridDetail, prompt: number | null, seed: number | null): Lines {
  const at = new Map(detail.cells.map(cell => [`${cell.row} ${cell.weight} ${cell.prompt} ${cell.seed}`, cell]));
  const { rows, weights } = detail.grid;
  const prompts = detail.grid.prompts.map((_, n) => n).filter(n => prompt === null || n === prompt);
  const seeds = detail.grid.seeds.filter(one => seed === null || one === seed);
  const shots = prompts.flatMap(p => seeds.map((s): Shot => [p, s]));
  if (weights.length <= FEW) {
    const columns = shots.flatMap(shot => weights.map(weight => ({ weight, shot })));
    return { rows: rows.map((_, row) => ({ row, shot: null })), columns, at };
  }
  const down = shots.flatMap(shot => rows.map((_, row) => ({ row, shot })));
  return { rows: down, columns: weights.map(weight => ({ weight, shot: null })), at };
}

export function cellIn({ rows, columns, at }: Lines, row: number, column: number): GridCell | undefined {
  const [down, across] = [rows[row], columns[column]];
  const shot = down?.shot ?? across?.shot;
  return down && across && shot ? at.get(`${down.row} ${across.weight} ${shot[0]} ${shot[1]}`) : undefined;
}

/** A grid with other stars on one of its cells; what else was marked meanwhile stays. */
export const starred = (detail: GridDetail, key: string, stars: number): GridDetail =>
  ({ ...detail, cells: detail.cells.map(cell => (cell.key === key ? { ...cell, stars } : cell)) });

export function GridView({ id }: { id: string }) {
  const detail = useSignal<GridDetail | null>(null);
  const prompt = useSignal<number | null>(null);
  const seed = useSignal<number | null>(null);
  const side = useSignal(148);
  const open = useSignal<[number, number] | null>(null);
  const voting = useSignal(false);
  useEffect(() => {
    detail.value = null;
    open.value = prompt.value = seed.value = null;
  }, [id]);
  const changed = grids.value.find(one => one.id === id)?.changed; // a grid that is still drawn grows
  useEffect(() => asking(() => get<GridDetail>(`api/grids/${encodeURIComponent(id)}`), got => (detail.value = got)), [id, changed]);
  const table = useComputed(() => (detail.value ? lined(detail.value, prompt.value, seed.value) : null));
  const shown = detail.value;
  if (!shown || !table.value) return <div class="bench"><p class="hint">{t("loading")}</p></div>;
  const { grid } = shown;
  const lines = table.value;
  const cellAt = (row: number, column: number): GridCell | undefined => cellIn(lines, row, column);
  const picture = (row: number, column: number): GridPicture | null => {
    const cell = cellAt(row, column);
    if (!cell?.picture) return null;
    return { key: cell.key, picture: cell.picture, stars: cell.stars, title: `${grid.rows[cell.row]} × ${cell.weight}, ${grid.prompts[cell.prompt]}, ${t("scene.seed")} ${cell.seed}` };
  };
  const base = (row: number, column: number): GridPicture | null => {
    const { shot } = lines.columns[column]!;
    const at = lines.columns.findIndex(one => one.weight === 0 && one.shot?.join() === shot?.join());
    return at < 0 ? null : picture(row, at);
  };
  const mark = async (row: number, column: number, stars: number): Promise<void> => {
    const cell = cellAt(row, column);
    if (!cell?.picture) return;
    const answer = await inTurn(() => attempt(() => post<MarkAnswer>("api/marks", { picture: cell.picture, stars })));
    if (answer && detail.peek()) detail.value = starred(detail.peek()!, cell.key, answer.stars);
  };
  const use = (row: number): (() => void) | null => {
    const place = lines.rows[row];
    const found = place ? epochOf(shown, place.row) : null;
    return found ? () => takeEpoch(found.run, found.epoch) : null;
  };
  const take = (row: number) => {
    const found = epochOf(shown, row);
    return found ? <button type="button" class="button small" tabIndex={-1} onClick={() => takeEpoch(found.run, found.epoch)}>{t("epoch.use")}</button> : null;
  };
  const words = (shot: Shot): string => `${grid.prompts[shot[0]]} · ${shot[1]}`;
  const above = (shot: Shot): string => `${t("scene.seed")} ${shot[1]} · ${grid.prompts[shot[0]]}`;
  const rows = lines.rows.map(({ row, shot }): GridRow => ({ key: `${row} ${shot?.join()}`, label: grid.rows[row] ?? "", note: shot ? words(shot) : "", extra: take(row) }));
  const heads = lines.columns.map(({ weight, shot }) => `${weight === 0 ? t("grid.base") : `× ${weight}`}${shot ? ` · ${above(shot)}` : ""}`);
  const keyed = (key: string, row: number, column: number): boolean => {
    if (/^[0-5]$/.test(key)) void mark(row, column, Number(key));
    else if (key.toLowerCase() === "u") use(row)?.();
    else return false;
    return true;
  };
  const large = open.value ? picture(...open.value) : null;
  return (
    <div class="bench">
      <section class="panel grid-panel" aria-labelledby="grid-title">
        <header>
          <h2 id="grid-title" title={grid.name}>{grid.name}</h2>
          <Pick label={t("grid.prompt")} values={grid.prompts.map((text, n) => [n, text])} value={prompt.value} onChange={n => (prompt.value = n)} />
          <Pick label={t("scene.seed")} values={grid.seeds.map(n => [n, String(n)])} value={seed.value} onChange={n => (seed.value = n)} />
          <label class="field inline"><span>{t("grid.size")}</span><input type="range" min={72} max={320} step={4} value={side.value} onInput={event => (side.value = Number(event.currentTarget.value))} /></label>
          <Button id="blind" kind="primary" label={t("pairs.start")} title={t("pairs.start.help")} onClick={() => (voting.value = true)} />
        </header>
        <PictureGrid key={id} label={grid.name} rows={rows} columns={heads} at={picture} side={side.value}
          aspect={grid.size[1] / Math.max(1, grid.size[0])} onOpen={(row, column) => (open.value = [row, column])} onKey={keyed} />
        {shown.standings.length > 0 ? <Details title={t("standings")}><Standings grid={shown} /></Details> : null}
        <p class="hint">{t("grid.keys")}</p>
      </section>
      {large && open.value ? (
        <Large cell={large} other={base(...open.value)} onUse={use(open.value[0])} onStars={stars => void mark(open.value![0], open.value![1], stars)}
          onKey={key => {
            const to = moved(key, open.value![0], open.value![1], lines.rows.length, lines.columns.length, (row, column) => picture(row, column) !== null);
            if (to) open.value = to;
            return to !== null;
          }}
          onClose={() => (open.value = null)} />
      ) : null}
      {voting.value ? <Pairs grid={shown} onVoted={answer => (detail.value = { ...(detail.peek() ?? shown), ...answer })} onClose={() => (voting.value = false)} /> : null}
    </div>
  );
}

/** The run and epoch that a row of a grid shows, by the row's name ("ink@6"). */
function epochOf(detail: GridDetail, row: number): { run: NonNullable<typeof runs.value>[number]; epoch: number } | null {
  const name = detail.grid.rows[row] ?? "";
  const epoch = detail.cells.find(cell => cell.row === row)?.epoch ?? null;
  const lora = (loras.value ?? []).find(one => one.run !== null && one.epoch === epoch && nameOf(one) === name)
    ?? (loras.value ?? []).find(one => one.run !== null && one.epoch === epoch && name.startsWith(nameOf(one).split("@")[0]!));
  const run = (runs.value ?? []).find(one => one.id === lora?.run);
  return run && epoch !== null ? { run, epoch } : null;
}

function Pick({ label, values, value, onChange }: { label: string; values: [number, string][]; value: number | null; onChange: (value: number | null) => void }) {
  if (values.length < 2) return null;
  return (
    <label class="field inline"><span>{label}</span>
      <select value={value === null ? "" : String(value)} onChange={event => onChange(event.currentTarget.value === "" ? null : Number(event.currentTarget.value))}>
        <option value="">{t("all")}</option>
        {values.map(([n, text]) => <option key={n} value={String(n)}>{text}</option>)}
      </select>
    </label>
  );
}
