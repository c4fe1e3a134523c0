// Blind pairs: two cells of the same prompt and seed, wherever those stand, sides by chance, no labels. The least judged
// come first. A page that asks for certain pairs shows these, in their order and until each is answered.
const spot = cell => cell.at.filter((_, axis) => !axes[axis].held).join(); // what is judged, whatever is held
const blind = { pair: null, judged: 0, busy: false };
const chance = list => list[Math.floor(Math.random() * list.length)];
const fewest = (list, count) => {
  const least = Math.min(...list.map(count));
  return list.filter(item => count(item) === least);
};

function candidates() {
  const inside = combinations().map(more => more.join());
  return cells.filter(cell => !isBase(cell) && passes(cell) && inside.includes(cell.inner));
}
const pairKey = (left, right) => [left, right].sort().join("|");
const answered = () => new Set(votes.pairs.map(({ left, right }) => pairKey(left, right)));
function nextAsked() {
  const known = answered(), pair = grid.pairs.find(own => !known.has(pairKey(...own)));
  return pair ? pair.map(key => byKey.get(key)) : null;
}
function draw() {
  if (grid.pairs.length) return nextAsked();
  const all = candidates(), seen = new Map(), met = new Map();
  const rival = one => other => other.key !== one.key && spot(other) !== spot(one) &&
    axes.every((axis, n) => !axis.held || other.at[n] === one.at[n]);
  const count = (map, key) => map.get(key) || 0;
  for (const { left, right } of votes.pairs) {
    const [a, b] = [byKey.get(left), byKey.get(right)];
    if (!a || !b) continue;
    for (const one of [a, b]) seen.set(spot(one), count(seen, spot(one)) + 1);
    for (const both of [spot(a) + "|" + spot(b), spot(b) + "|" + spot(a)]) met.set(both, count(met, both) + 1);
  }
  const able = all.filter(one => all.some(rival(one)));
  if (!able.length) return null;
  const one = chance(fewest(able, cell => count(seen, spot(cell))));
  const strange = fewest(all.filter(rival(one)), other => count(met, spot(one) + "|" + spot(other)));
  const other = chance(fewest(strange, cell => count(seen, spot(cell))));
  return Math.random() < 0.5 ? [one, other] : [other, one];
}

const ALL_ANSWERED = "Every pair is answered: export votes.json with E";
function openPairs() {
  blind.judged = 0;
  if (!draw()) {
    say(grid.pairs.length ? ALL_ANSWERED : "Blind pairs need two different cells besides the base; loosen the filter");
    return;
  }
  zoomAway();
  openDialog($("blind"));
  nextPair();
}
function nextPair() {
  blind.pair = draw();
  blind.busy = false;
  if (!blind.pair) {
    $("blind-stage").replaceChildren();
    $("blind").close();
    say(ALL_ANSWERED);
    return;
  }
  $("blind-stage").className = "stage two";
  $("blind-stage").replaceChildren(...blind.pair.map((cell, n) => {
    const made = element("figure", {}, frame(cell, true));
    made.firstChild.setAttribute("role", "img");
    made.firstChild.ariaLabel = n ? "right picture" : "left picture";
    made.addEventListener("click", () => { if (!dragged()) judge(n ? "right" : "left"); });
    return made;
  }));
  const held = axes.map((_, n) => n).filter(n => axes[n].held && axes[n].values.length > 1);
  const same = held.map(axis => label(blind.pair[0], axis)).join(" · ");
  const known = answered(), done = grid.pairs.filter(own => known.has(pairKey(...own))).length;
  const count = grid.pairs.length ? `${done} of ${grid.pairs.length} answered`
    : `${blind.judged} judged now, ${votes.pairs.length} in all`;
  $("blind-caption").replaceChildren(element("b", { textContent: grid.question || "Which is better?" }),
    `  ·  ${count}`, same ? "  ·  " + same : "");
  $("undo").disabled = !blind.judged;
}
function judge(won) {
  if (blind.busy) return;
  blind.busy = true;
  const [left, right] = blind.pair;
  votes.pairs.push({ left: left.key, right: right.key, won, when: new Date().toISOString() });
  blind.judged++;
  keepVotes();
  const figures = $("blind-stage").querySelectorAll("figure");
  if (won !== "tie") figures[won === "left" ? 0 : 1].classList.add("won");
  setTimeout(() => { if ($("blind").open) nextPair(); }, 140);
}
function undoPair() {
  if (!blind.judged || blind.busy) return;
  votes.pairs.pop();
  blind.judged--;
  keepVotes();
  nextPair();
}

function card(title, ...body) {
  $("card-title").textContent = title;
  $("card-body").replaceChildren(...body);
  if (!$("sheet-dialog").open) $("sheet-dialog").showModal();
}
function openStandings() {
  if (!voted().length) { say("No votes yet: give stars with 1 to 5, or judge pairs with V"); return; }
  const ways = [[Y, X], ...axes.map((_, n) => [n]).filter(([n]) => axes[n].values.length > 1)];
  const choose = element("select", { ariaLabel: "Standings by" }, ...ways.map((way, n) =>
    element("option", { value: n, textContent: "by " + way.map(axis => axes[axis].name).join(" × ") })));
  const table = element("div");
  const fill = () => table.replaceChildren(standingsTable(standings(ways[choose.value])));
  choose.addEventListener("change", fill);
  fill();
  const note = "Rating: Bradley–Terry on Elo's scale from the blind pairs; 0 is the average cell. Few pairs say little.";
  card("Standings", choose, table, element("p", { className: "hint", textContent: note }));
}
function standingsTable(found) {
  const line = (tag, ...parts) => element("tr", {}, ...parts.map((part, n) =>
    element(tag, { className: n ? "num" : "", textContent: part })));
  return element("table", { id: "standings-table" },
    element("thead", {}, line("th", "", "rating", "won", "shown", "stars")),
    element("tbody", {}, ...found.map(one => line("td", one.name, one.shown ? Math.round(one.rating) : "–",
      one.wins, one.shown, one.stars ? one.stars.toFixed(1) : "–"))));
}
function pairing() {
  zoomable($("blind"), true);
  for (const won of ["left", "tie", "right"]) $(won).addEventListener("click", () => judge(won));
  $("undo").addEventListener("click", undoPair);
  $("done").addEventListener("click", () => $("blind").close());
  $("blind").addEventListener("close", () => { zoomAway(); markAll(); if (blind.judged && !grid.pairs.length) openStandings(); });
}
