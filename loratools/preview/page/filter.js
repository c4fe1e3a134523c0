// What is hidden: a text that every shown cell must contain (word by word), and values unticked in the axes' menus.
const hidden = axes.map(() => new Set());
let words = [];

const texts = new Map(cells.map(cell => [cell, [
  ...axes.flatMap((_, n) => { const value = axes[n].values[cell.at[n]]; return [value.label, value.note]; }),
  cell.badge, cell.verdict ? cell.verdict[1] : "", isBase(cell) ? "base" : "",
].join(" ").toLowerCase()]));

function passes(cell) {
  return cell.at.every((value, axis) => !hidden[axis].has(value)) && words.every(word => word.startsWith("stars:")
    ? (votes.stars[cell.key] || 0) >= Number(word.slice(6)) : texts.get(cell).includes(word));
}
function setFilter(text) {
  words = text.toLowerCase().split(/\s+/).filter(Boolean);
  rebuild();
}

function axisMenu(axis) {
  const { name, values } = axes[axis];
  const summary = element("summary", { textContent: name });
  const boxes = values.map((value, n) => {
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => { if (box.checked) hidden[axis].delete(n); else hidden[axis].add(n); changed(); });
    return box;
  });
  const changed = () => {
    boxes.forEach((box, n) => { box.checked = !hidden[axis].has(n); });
    summary.classList.toggle("some", hidden[axis].size > 0);
    summary.textContent = hidden[axis].size ? `${name} ${values.length - hidden[axis].size}/${values.length}` : name;
    rebuild();
  };
  const all = element("button", { textContent: "Show all" });
  all.addEventListener("click", () => { hidden[axis].clear(); changed(); });
  const lines = values.map((value, n) => element("label", {}, boxes[n], value.label || "(empty)"));
  return element("details", { className: "menu" }, summary, element("div", {}, all, ...lines));
}

// A further axis is shown one value at a time, or all of them inside each cell.
function pageChooser(axis) {
  const choose = element("select", { ariaLabel: axes[axis].name, id: "page-" + axis });
  choose.append(element("option", { value: "", textContent: `every ${axes[axis].name}` }));
  axes[axis].values.forEach((value, n) =>
    choose.append(element("option", { value: n, textContent: value.label.slice(0, 80) || "(empty)" })));
  choose.value = shown[axis] ?? "";
  choose.addEventListener("change", () => {
    shown[axis] = choose.value === "" ? null : Number(choose.value);
    if (shown[axis] !== null && focus.cell) refocus(axis, shown[axis]);
    rebuild();
    fit();
  });
  return choose;
}
function filters() {
  for (const axis of axes.keys()) if (axes[axis].values.length > 1) $("axes").append(axisMenu(axis));
  for (const axis of extras) $("axes").append(pageChooser(axis));
  $("filter").addEventListener("input", event => setFilter(event.target.value));
  document.addEventListener("click", event => { // menus close when one clicks elsewhere
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
}
