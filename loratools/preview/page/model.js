// The grid's data: axes, cells by their place, and what is compared with what.
const grid = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const axes = grid.axes, cells = grid.cells;
const X = 0, Y = 1; // across and down; every further axis is shown as pages, or as tiles inside a cell
const extras = axes.map((_, n) => n).filter(n => n > Y && axes[n].values.length > 1);

for (const cell of cells) cell.inner = cell.at.slice(2).join(); // where it stands inside its place in the sheet
const byPlace = new Map(cells.map(cell => [cell.at.join(), cell]));
const byKey = new Map();
for (const cell of cells) if (!byKey.has(cell.key)) byKey.set(cell.key, cell);

const cellAt = at => byPlace.get(at.join());
const source = cell => grid.sources[cell.file];
const isBase = cell => cell.base !== null && cell.base.join() === cell.at.join();
const label = (cell, axis) => axes[axis].values[cell.at[axis]].label;
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

// What a cell is called: the base is the same whatever row it stands in.
function name(cell) {
  const parts = isBase(cell) ? ["base"] : [label(cell, Y), label(cell, X)].filter(Boolean);
  return parts.join(" × ");
}
function rest(cell) {
  return extras.map(axis => axes[axis].name + " " + label(cell, axis)).join(" · ");
}

// The cell that a cell is compared with: the pinned one at the same prompt, seed and so on, or else its base.
let pinned = null;
function reference(cell, base) {
  if (pinned && !base) return cellAt(cell.at.map((at, n) => n > Y || axes[n].held ? at : pinned.at[n])) || pinned;
  return cell.base ? cellAt(cell.base) : undefined;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key in made && key !== "list") made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

let statusTimer = 0;
function say(text) {
  $("status").textContent = text;
  $("status").classList.add("on");
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => $("status").classList.remove("on"), 1800);
}

// Storage may be refused (private windows, some browsers on file://); the page then works without memory.
function remember(key, value) {
  try { localStorage.setItem("loratools." + key, JSON.stringify(value)); return true; } catch { return false; }
}
function recall(key, otherwise) {
  try { return JSON.parse(localStorage.getItem("loratools." + key)) ?? otherwise; } catch { return otherwise; }
}
