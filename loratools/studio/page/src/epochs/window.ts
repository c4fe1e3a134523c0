// Which rows and columns of a large table are in sight: only those are in the page.

export interface Span {
  from: number;
  /** One past the last. */
  to: number;
}

/** The items of one size that lie between start and start + length pixels, and some more on both sides. */
export function span(start: number, length: number, size: number, count: number, more = 2): Span {
  if (count === 0 || size <= 0) return { from: 0, to: 0 };
  const from = Math.max(0, Math.floor(start / size) - more);
  const to = Math.min(count, Math.ceil((start + length) / size) + more);
  return { from: Math.min(from, count), to: Math.max(to, Math.min(from, count)) };
}

/** Where an arrow key goes from a cell; empty places are passed over. */
export function moved(
  key: string, row: number, column: number, rows: number, columns: number, has: (row: number, column: number) => boolean,
): [number, number] | null {
  const steps: Record<string, [number, number]> = {
    ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-5, 0], PageDown: [5, 0],
  };
  if (key === "Home") return first(row, 0, 1, columns, has);
  if (key === "End") return first(row, columns - 1, -1, columns, has);
  const step = steps[key];
  if (!step) return null;
  const sign: [number, number] = [Math.sign(step[0]), Math.sign(step[1])];
  let [r, c] = [clamp(row + step[0], rows), clamp(column + step[1], columns)];
  while (r >= 0 && r < rows && c >= 0 && c < columns) {
    if (has(r, c)) return [r, c];
    r += sign[0];
    c += sign[1];
  }
  return [row, column];
}

const clamp = (value: number, count: number): number => Math.min(count - 1, Math.max(0, value));

function first(row: number, from: number, by: number, count: number, has: (row: number, column: number) => boolean): [number, number] | null {
  for (let column = from; column >= 0 && column < count; column += by) if (has(row, column)) return [row, column];
  return null;
}

/** The cell that the Tab key comes to: that of the focus, or where it is out of sight or empty the first that is there. */
export function tabStop(
  focus: readonly [number, number], rows: readonly number[], columns: readonly number[], has: (row: number, column: number) => boolean,
): [number, number] | null {
  const [row, column] = focus;
  if (rows.includes(row) && columns.includes(column) && has(row, column)) return [row, column];
  for (const r of rows) for (const c of columns) if (has(r, c)) return [r, c];
  return null;
}
