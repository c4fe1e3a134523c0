// The panel of one cell, the keys, and the start.
function inspect(cell) {
  if (!cell || $("info").cell === cell && !$("info").stale) return;
  $("info").cell = cell;
  $("info").stale = false;
  const facts = axes.flatMap((axis, n) => (axis.values.length > 1 || n <= Y) && !(n <= Y && isBase(cell))
    ? [element("dt", { textContent: axis.name }), element("dd", { textContent: label(cell, n) })] : []);
  const scores = cell.scores.flatMap(score => [element("dt", { textContent: score.name }),
    element("dd", {}, score.text, score.part === null ? null : strip(score.name, score.part, score.text))]);
  const rate = element("div", { className: "rate", role: "group", ariaLabel: "Stars" }, ...[1, 2, 3, 4, 5].map(n => {
    const star = element("button", { textContent: "★", ariaLabel: `${n} stars`, title: `${n} stars (${n})` });
    star.className = n <= (votes.stars[cell.key] || 0) ? "on" : "";
    star.addEventListener("click", () => rateCell(cell, n));
    return star;
  }));
  const button = (text, action) => {
    const made = element("button", { textContent: text });
    made.addEventListener("click", action);
    return made;
  };
  $("info").replaceChildren(
    element("h2", { textContent: name(cell) }), rate,
    ...(cell.verdict ? [element("p", {}, verdictMark(cell.verdict))] : []),
    element("dl", {}, ...facts, ...scores, ...(cell.badge
      ? [element("dt", { textContent: "note" }), element("dd", { textContent: cell.badge })] : [])),
    element("div", { className: "row" }, button("Copy", () => copy(cell.parameters)),
      button(cell === pinned ? "Unpin" : "Pin", () => pin(cell)), button("Open", () => openLight(cell))),
    element("pre", { textContent: cell.parameters, tabIndex: 0 }),
    ...grid.about.map(text => element("p", { className: "hint", textContent: text })));
}
function inspectAgain() { $("info").stale = true; inspect($("info").cell); }

async function copy(text) {
  try { await navigator.clipboard.writeText(text); } catch { // no clipboard here: the old way
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say("Parameters copied");
}
function rateCell(cell, count) {
  setStars(cell, count);
  for (const other of buttons.keys()) if (other.key === cell.key) mark(other);
  if ($("light").open) captionLight(focus.cell, reference(focus.cell));
  inspectAgain();
}
function pin(cell) {
  pinned = pinned === cell ? null : cell;
  say(pinned ? `Pinned ${name(cell)}: Space flips to it, D shows the difference` : "Nothing is pinned: the base again");
  markAll();
  if (view.diff) for (const made of buttons.values()) compare(made.firstChild);
  if ($("light").open) showLight();
  inspectAgain();
}
function toggleDiff() {
  view.diff = !view.diff;
  if (view.diff && !pinned && !cells.some(cell => cell.base)) say("There is no base in this grid; pin a cell with P");
  $("diff").setAttribute("aria-pressed", view.diff);
  $("gain-box").hidden = !view.diff;
  for (const made of buttons.values()) compare(made.firstChild);
  if ($("light").open) showLight();
}
function toggleTheme() {
  setTheme(root.dataset.theme === "dark" ? "light" : "dark");
  remember("theme", root.dataset.theme);
}
function setTheme(theme) { root.dataset.theme = theme; }
function togglePanel() {
  $("info").hidden = !$("info").hidden;
  $("panel").setAttribute("aria-pressed", !$("info").hidden);
}
function help() {
  const page = extras.map((axis, n) => [n ? "[ ]" : "PgUp PgDn", axes[axis].name]).slice(0, 2);
  const lines = [["← →", axes[X].name], ["↑ ↓", axes[Y].name], ...page, ["Enter", "open the cell, and close it again"],
    ["Space", "hold: the pinned cell, or the base"], ["B", "hold: the base"], ["P", "pin this cell, or unpin it"],
    ["D", "difference from the pinned cell, or from the base"],
    [", .", "a weaker or stronger heat map"], ["S", "side by side, in an open cell"],
    ["+ − 0", "zoom all cells in, out, away; or Ctrl + wheel"],
    ["Shift ←↑↓→", "look elsewhere in the zoomed cells; or drag"], ["1 … 5", "stars; the same again takes them away"],
    ["V", "blind pairs: ← or →, ↓ for a tie, U to undo"], ["R", "standings"], ["E", "export votes.json"],
    ["C", "copy the parameters"], ["/", "filter; several words must all match, stars:3 for three and more"],
    ["I T ?", "info panel, theme, this list"]];
  const table = element("table", { className: "plain" }, ...lines.map(([key, text]) =>
    element("tr", {}, element("td", {}, ...key.split(" ").flatMap(k => [element("kbd", { textContent: k }), " "])),
      element("td", { textContent: text }))));
  card("Keys", table);
}

const anywhere = {
  ArrowLeft: () => move(X, -1), ArrowRight: () => move(X, 1), ArrowUp: () => move(Y, -1), ArrowDown: () => move(Y, 1),
  PageUp: () => extras.length && move(extras[0], -1), PageDown: () => extras.length && move(extras[0], 1),
  "[": () => extras.length > 1 && move(extras[1], -1), "]": () => extras.length > 1 && move(extras[1], 1),
  "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: zoomAway,
  " ": () => flipNow(true, false), b: () => flipNow(true, true), p: () => pin(focus.cell), d: toggleDiff,
  ",": () => stepGain(-0.5), ".": () => stepGain(0.5),
  c: () => copy(focus.cell.parameters), e: exportVotes,
  Enter: () => $("light").open ? $("light").close() : openLight(focus.cell),
};
for (const n of [1, 2, 3, 4, 5]) anywhere[n] = () => rateCell(focus.cell, n);
const inSheet = { v: openPairs, r: openStandings, i: togglePanel, t: toggleTheme, "?": help, "/": () => $("filter").focus() };
const inLight = { s: toggleSide };
const inPairs = {
  ArrowLeft: () => judge("left"), ArrowRight: () => judge("right"), ArrowDown: () => judge("tie"), u: undoPair,
  "+": anywhere["+"], "=": anywhere["+"], "-": anywhere["-"], 0: zoomAway,
};

const pans = {
  ArrowLeft: () => panBy(-0.15, 0), ArrowRight: () => panBy(0.15, 0),
  ArrowUp: () => panBy(0, -0.15), ArrowDown: () => panBy(0, 0.15),
};

function keysNow() {
  if ($("sheet-dialog").open) return {};
  if ($("blind").open) return inPairs;
  return $("light").open ? { ...anywhere, ...inLight } : { ...anywhere, ...inSheet };
}
function press(event) {
  const target = event.target;
  if (target.id === "filter" && event.key === "Escape") { target.value = ""; setFilter(""); target.blur(); return; }
  const menu = target.closest("details[open]");
  if (menu && event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select, textarea")) return;
  const own = target.matches("button:not(.cell), summary, pre"); // these keep their own keys
  if (own && [" ", "Enter"].includes(event.key)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = event.shiftKey && view.zoom > 1 && pans[key] || keysNow()[key];
  if (!action) return;
  event.preventDefault();
  if (event.repeat && !key.startsWith("Arrow") && !key.startsWith("Page")) return;
  action();
  if ($("light").open && (key.startsWith("Arrow") || key.startsWith("Page") || "[]".includes(key))) showLight();
}
function release(event) {
  if (event.key === " " || event.key.toLowerCase() === "b") flipNow(false);
}

function start() {
  document.title = $("title").textContent = grid.title;
  if (!cells.length) { $("none").textContent = "This grid has no pictures."; $("none").hidden = false; return; }
  setTheme(recall("theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  root.style.setProperty("--ratio", grid.size[0] / grid.size[1]);
  try { takeVotes(recall(SHELF, record())); } catch { say("Older votes of this grid could not be read"); }
  if (innerWidth < 1000) togglePanel();
  if (extras.length && combinations().length > 9) extras.forEach(axis => { shown[axis] = cells[0].at[axis]; });
  filters();
  lights();
  pairing();
  zoomable($("sheet"), false);
  setGain(view.gain);
  showZoom();
  rebuild();
  fit();
  keepVotes();

  $("table").addEventListener("click", event => {
    const cell = event.target.closest(".cell")?.cell;
    if (cell && !dragged()) openLight(cell);
  });
  $("table").addEventListener("pointerover", event => inspect(event.target.closest(".cell")?.cell));
  $("table").addEventListener("focusin", event => {
    const cell = event.target.closest(".cell")?.cell;
    if (cell && cell !== focus.cell && !light.returning) setFocus(cell, false);
  });
  $("size").addEventListener("input", event => setSize(event.target.value));
  $("gain").addEventListener("input", event => setGain(Number(event.target.value)));
  const clicks = { diff: toggleDiff, pairs: openPairs, panel: togglePanel, theme: toggleTheme, help, standings: openStandings,
                   export: exportVotes, import: () => $("import-file").click() };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  $("forget").addEventListener("click", () => {
    if (!confirm("Forget all stars and pairs of this grid?")) return;
    Object.assign(votes, { stars: {}, pairs: [], cells: {} });
    keepVotes();
    markAll();
    inspectAgain();
  });
  $("import-file").addEventListener("change", async event => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    try {
      takeVotes(JSON.parse(await file.text()));
      keepVotes();
      markAll();
      inspectAgain();
      say("Votes taken over");
    } catch (error) { say("Not imported: " + error.message); }
  });
  if (grid.pairs.length && nextAsked()) openPairs();
  document.addEventListener("keydown", press);
  document.addEventListener("keyup", release);
  window.addEventListener("blur", () => flipNow(false));
}
start();
