// Stars and pairs, kept in the browser under the grid's id and the page's own place (browsers give all pages of a disk
// one storage, and grids of one title one id), and exported as votes.json (loratools/preview/votes.py).
const FORMAT = "loratools votes 1";
const SHELF = ["votes", grid.id, location.pathname].join(".");
const POINTS = { left: 1, tie: 0.5, right: 0 };
const votes = { stars: {}, pairs: [], cells: {} };

function place(cell) { // by the values' own names, whatever they are called on the page
  const named = (axis, n) => axis.values[cell.at[n]].name || label(cell, n);
  return Object.fromEntries(axes.map((axis, n) => [axis.name, named(axis, n)]));
}
function told(key) { // a cell's entry under "cells"; those of other grids are kept as they came
  const cell = byKey.get(key);
  return cell ? { at: place(cell), file: cell.file } : votes.cells[key];
}
function voted() {
  return [...new Set([...Object.keys(votes.stars), ...votes.pairs.flatMap(pair => [pair.left, pair.right])])];
}
function record() {
  const found = voted().map(key => [key, told(key)]).filter(([, entry]) => entry);
  return {
    format: FORMAT, grid: { id: grid.id, title: grid.title }, saved: new Date().toISOString(),
    cells: Object.fromEntries(found), stars: votes.stars, pairs: votes.pairs,
  };
}
function keepVotes() {
  if (!remember(SHELF, record())) say("This browser keeps nothing for this page: export your votes");
  $("vote-count").textContent = Object.keys(votes.stars).length + votes.pairs.length || "";
}

// Throws an Error that says what is wrong; otherwise the votes of both are put together.
function takeVotes(content) {
  if (content?.format !== FORMAT) throw new Error("this is not a votes.json of loratools");
  const { cells: places = {}, stars = {}, pairs = [] } = content;
  const sound = key => byKey.has(key) || typeof places[key]?.at === "object";
  if (!Object.entries(stars).every(([key, n]) => sound(key) && Number.isInteger(n) && n >= 1 && n <= 5) ||
      !pairs.every(pair => sound(pair.left) && sound(pair.right) && pair.won in POINTS)) {
    throw new Error("its votes are damaged");
  }
  Object.assign(votes.cells, places);
  Object.assign(votes.stars, stars);
  const known = new Map();
  const text = pair => JSON.stringify([pair.left, pair.right, pair.won, pair.when]);
  for (const pair of votes.pairs) known.set(text(pair), true);
  votes.pairs.push(...pairs.filter(pair => !pair.when || !known.has(text(pair))));
}

function setStars(cell, count) {
  if (count && votes.stars[cell.key] !== count) votes.stars[cell.key] = count; else delete votes.stars[cell.key];
  keepVotes();
}

function exportVotes() {
  const link = element("a", { download: "votes.json" });
  link.href = URL.createObjectURL(new Blob([JSON.stringify(record(), null, 1) + "\n"], { type: "application/json" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say("votes.json saved to your downloads");
}

// The same as votes.py: Bradley-Terry strengths on Elo's scale, one tie with an average candidate as a prior.
function ratings(games) {
  const met = new Map(), wins = new Map();
  for (const [left, right, points] of games) {
    for (const [one, other, won] of [[left, right, points], [right, left, 1 - points]]) {
      met.set(one, [...(met.get(one) || []), other]);
      wins.set(one, (wins.get(one) || 0) + won);
    }
  }
  let strength = new Map([...met.keys()].map(one => [one, 1]));
  for (let round = 0; round < 200; round++) {
    strength = new Map([...strength].map(([one, mine]) => [one, (wins.get(one) + 0.5) /
      (1 / (mine + 1) + met.get(one).reduce((sum, other) => sum + 1 / (mine + strength.get(other)), 0))]));
  }
  return new Map([...strength].map(([one, value]) =>
    [one, { rating: 400 * Math.log10(value), wins: wins.get(one), shown: met.get(one).length }]));
}

// Candidates told apart by some axes, best first.
function standings(by) {
  const title = key => {
    const at = told(key)?.at;
    return at ? by.map(axis => at[axes[axis].name] ?? "?").join(" × ") : "?";
  };
  const games = votes.pairs.map(pair => [title(pair.left), title(pair.right), POINTS[pair.won]])
    .filter(([left, right]) => left !== right);
  const rated = ratings(games), stars = new Map();
  for (const [key, count] of Object.entries(votes.stars)) stars.set(title(key), [...(stars.get(title(key)) || []), count]);
  return [...new Set([...rated.keys(), ...stars.keys()])].map(one => {
    const given = stars.get(one) || [];
    return { name: one, rating: 0, wins: 0, shown: 0, ...rated.get(one),
             stars: given.length ? given.reduce((a, b) => a + b) / given.length : 0 };
  }).sort((a, b) => Math.round(1e6 * (b.rating - a.rating)) || b.stars - a.stars || (a.name < b.name ? -1 : 1));
}
