// The sheet: rows down, columns across, and one focused cell that the keyboard moves.
const shown = axes.map(() => null); // for a further axis: the value that is shown, or null for all of them
const focus = { cell: cells[0] };
const buttons = new Map(); // cell -> its button, of those in the sheet

const range = axis => axes[axis].values.map((_, n) => n).filter(n => !hidden[axis].has(n));
function combinations() { // the places inside a cell, on all further axes
  let found = [[]];
  for (let axis = Y + 1; axis < axes.length; axis++) {
    const values = shown[axis] === null ? range(axis) : [shown[axis]];
    found = found.flatMap(start => values.map(value => [...start, value]));
  }
  return found;
}
function acrossOf(count) { // as on grid.png: two axes make a small table, one a square
  const open = extras.filter(axis => shown[axis] === null && range(axis).length > 1);
  return open.length === 2 ? range(open[1]).length : Math.ceil(Math.sqrt(count));
}

function rebuild() {
  const inside = combinations(), kept = document.activeElement?.classList.contains("cell");
  const at = (x, y) => inside.map(more => cellAt([x, y, ...more])).filter(Boolean);
  const some = list => list.some(passes);
  const columns = range(X).filter(x => range(Y).some(y => some(at(x, y))));
  const rows = range(Y).filter(y => columns.some(x => some(at(x, y))));
  buttons.clear();
  root.style.setProperty("--across", acrossOf(inside.length));
  const corner = element("th", { textContent: `${axes[Y].name} ↓  ${axes[X].name} →` });
  const head = columns.map(x => heading(X, x, "col", rows));
  const body = rows.map(y => element("tr", {}, heading(Y, y, "row", columns), ...columns.map(x => tile(at(x, y)))));
  $("table").replaceChildren(element("thead", {}, element("tr", {}, corner, ...head)), element("tbody", {}, ...body));
  $("none").hidden = buttons.size > 0;
  if (!buttons.has(focus.cell)) focus.cell = [...buttons.keys()][0] ?? focus.cell;
  setFocus(focus.cell, kept);
}
function heading(axis, n, scope, others) {
  const value = axes[axis].values[n];
  const note = value.note ? element("small", { textContent: value.note }) : null;
  const base = others.every(other => {
    const cell = cells.find(one => one.at[axis] === n && one.at[axis === X ? Y : X] === other);
    return cell && isBase(cell);
  });
  return element("th", { scope, title: value.tip || value.label, className: base ? "base" : "" },
    element("div", {}, value.label, note));
}
function tile(list) {
  const made = list.map(cellButton);
  const under = element("div", { className: "under" });
  const badges = [...new Set(list.map(cell => cell.badge).filter(Boolean))];
  const verdicts = new Map(list.filter(cell => cell.verdict).map(cell => [cell.verdict.join(), cell.verdict]));
  under.append(...[...verdicts.values()].slice(0, 3).map(verdictMark), ...badges.slice(0, 3));
  const base = list.length > 0 && list.every(isBase);
  return element("td", { className: base ? "base" : "" }, element("div", { className: "tile" }, ...made),
    ...strips(list), under.childNodes.length ? under : null);
}
function strips(list) { // one heat strip for each score, the mean of the cell's pictures
  const parts = new Map();
  for (const score of list.flatMap(cell => cell.scores)) {
    if (score.part !== null) parts.set(score.name, [...(parts.get(score.name) || []), score]);
  }
  return [...parts].map(([title, scores]) => strip(title, scores.reduce((sum, one) => sum + one.part, 0) / scores.length,
    scores.map(one => one.text).join(", ")));
}
function strip(title, part, text) {
  const made = element("div", { className: "strip", title: `${title}: ${text}` });
  made.style.setProperty("--part", clamp(part, 0, 1));
  return made;
}
function verdictMark([level, text]) {
  const kind = { under: "under-fit", over: "over-fit" }[level] || level;
  return element("span", { className: "verdict " + kind, textContent: text });
}
function cellButton(cell) {
  const made = element("button", { className: "cell", tabIndex: -1 }, frame(cell, false));
  made.cell = cell;
  made.classList.toggle("off", !passes(cell));
  buttons.set(cell, made);
  mark(cell);
  if (view.diff) compare(made.firstChild);
  return made;
}
function mark(cell) { // stars and pin, in the picture and for screen readers
  const made = buttons.get(cell);
  if (!made) return;
  const count = votes.stars[cell.key] || 0;
  made.querySelector(".stars")?.remove();
  if (count) made.append(element("span", { className: "stars", textContent: `${count}★`, ariaHidden: "true" }));
  made.classList.toggle("pinned", cell === pinned);
  made.ariaLabel = [name(cell), rest(cell), cell.verdict?.[1], cell.badge, count && `${count} stars`,
    cell === pinned && "pinned"].filter(Boolean).join(", ");
}
function markAll() { for (const cell of buttons.keys()) mark(cell); }

function setFocus(cell, take) {
  if (!cell) return;
  const before = buttons.get(focus.cell), now = buttons.get(cell);
  if (before) before.tabIndex = -1;
  focus.cell = cell;
  if (now) now.tabIndex = 0;
  if (now && take) now.focus({ preventScroll: true });
  if (now && take) now.scrollIntoView({ block: "nearest", inline: "nearest" });
  inspect(cell);
}
// One step along an axis, past hidden values and empty places; false at the end.
function move(axis, by) {
  const at = [...focus.cell.at], values = range(axis);
  for (let n = values.indexOf(at[axis]) + by; n >= 0 && n < values.length; n += by) {
    at[axis] = values[n];
    const cell = cellAt(at);
    if (cell && passes(cell)) { go(cell); return true; }
  }
  return false;
}
function refocus(axis, value) {
  const at = [...focus.cell.at];
  at[axis] = value;
  focus.cell = cellAt(at) ?? focus.cell;
}
function go(cell) { // also turns the pages to where the cell is
  let turned = false;
  for (const axis of extras) {
    if (shown[axis] === null || shown[axis] === cell.at[axis]) continue;
    shown[axis] = cell.at[axis];
    $("page-" + axis).value = cell.at[axis];
    turned = true;
  }
  if (turned) { setFocus(cell, false); rebuild(); }
  setFocus(cell, !$("light").open);
}

// The widest pictures with which every column is in view, within reason.
function fit() {
  const columns = Math.max(1, range(X).length), across = acrossOf(combinations().length);
  const gutter = $("table").querySelector("tbody th")?.offsetWidth ?? 190;
  const room = ($("sheet").clientWidth - gutter - 62) / columns - 7;
  const size = clamp(Math.floor(room / across) - 3, 56, 320);
  $("size").value = size;
  setSize(size);
}
function setSize(size) { root.style.setProperty("--thumb", size + "px"); }
