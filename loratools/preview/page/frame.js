// One picture in a frame. All frames share one zoom, held in three properties of the root; a second picture, the
// reference, lies on top to flip to it or to show the difference. Browsers forbid reading the pixels of file://
// pictures, so the heat map is a blend and an SVG filter, which need no reading.
const root = document.documentElement;
const view = { zoom: 1, x: 0, y: 0, diff: false, gain: 1 };

function frame(cell, eager) {
  const made = element("span", { className: "frame" }, picture(cell, eager, "shot"));
  made.cell = cell;
  return made;
}
function picture(cell, eager, kind) {
  const made = element("img", { className: kind, alt: "", draggable: false, decoding: "async" });
  made.loading = eager ? "eager" : "lazy";
  made.src = source(cell);
  return made;
}
function setFrame(made, cell) {
  if (made.cell === cell) return;
  made.cell = cell;
  made.querySelector(".shot").src = source(cell);
}
function setOther(made, cell) { // no cell: no reference
  const other = made.querySelector(".other");
  if (!cell) { other?.remove(); return; }
  if (!other) made.append(picture(cell, made.querySelector(".shot").loading === "eager", "other"));
  else if (other.getAttribute("src") !== source(cell)) other.src = source(cell);
}
function compare(made) { // difference on or off, against the present reference
  const other = view.diff ? reference(made.cell) : undefined;
  made.classList.toggle("diff", Boolean(other));
  if (other || !made.classList.contains("flipped")) setOther(made, other);
}
function flip(made, on, base) {
  if (on) setOther(made, reference(made.cell, base));
  made.classList.toggle("flipped", on);
  if (!on) compare(made);
}

function showZoom() {
  view.zoom = clamp(view.zoom, 1, 32);
  view.x = clamp(view.x, 1 - view.zoom, 0);
  view.y = clamp(view.y, 1 - view.zoom, 0);
  root.style.setProperty("--zoom", view.zoom);
  root.style.setProperty("--x", 100 * view.x + "%");
  root.style.setProperty("--y", 100 * view.y + "%");
  root.classList.toggle("zoomed", view.zoom > 1);
  root.classList.toggle("pixels", grid.size[0] <= 128 || view.zoom >= 4);
}
function zoomBy(factor, x = 0.5, y = 0.5) { // the point (x, y) of every frame stays where it is
  const before = view.zoom;
  view.zoom = clamp(before * factor, 1, 32);
  view.x = x - (x - view.x) * view.zoom / before;
  view.y = y - (y - view.y) * view.zoom / before;
  showZoom();
}
function panBy(x, y) { // in parts of a picture
  view.x -= x;
  view.y -= y;
  showZoom();
}
function zoomAway() { Object.assign(view, { zoom: 1, x: 0, y: 0 }); showZoom(); }
function setGain(power) { // differences are shown 2 ** power times as strong
  view.gain = clamp(power, 0, 5);
  $("gain").value = view.gain;
  const row = Array(3).fill((2 ** view.gain / 3).toFixed(4)).join(" ") + " 0 0";
  $("heat-gain").setAttribute("values", `${row} ${row} ${row} 0 0 0 0 1`);
}
function stepGain(by) { setGain(view.gain + by); say(`Differences shown ${(2 ** view.gain).toFixed(1)} times`); }

let draggedAt = -1e9;
// The click that ends a drag is not a click; browsers differ in whether a captured pointer's click reaches the cell.
const dragged = () => performance.now() - draggedAt < 80;

// Wheel and drag, in the sheet and in the dialogs. In the sheet a plain wheel scrolls, as everywhere.
function zoomable(area, plainWheel) {
  let from = null;
  const within = event => event.target.closest(".frame");
  area.addEventListener("wheel", event => {
    const over = within(event);
    if (!over || !(plainWheel || event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const box = over.getBoundingClientRect();
    const by = clamp(event.deltaMode ? event.deltaY * 16 : event.deltaY, -160, 160);
    zoomBy(2 ** (-by / 200), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  area.addEventListener("pointerdown", event => {
    const over = within(event);
    if (!over || event.button !== 0 || view.zoom <= 1) return;
    from = { id: event.pointerId, over, x: event.clientX, y: event.clientY, moved: false };
  });
  area.addEventListener("pointermove", event => {
    if (!from || event.pointerId !== from.id) return;
    const dx = event.clientX - from.x, dy = event.clientY - from.y;
    if (!from.moved && Math.hypot(dx, dy) < 4) return;
    if (!from.moved) area.setPointerCapture(event.pointerId);
    const box = from.over.getBoundingClientRect();
    view.x += dx / box.width;
    view.y += dy / box.height;
    Object.assign(from, { x: event.clientX, y: event.clientY, moved: true });
    showZoom();
  });
  area.addEventListener("pointerup", () => {
    if (from?.moved) draggedAt = performance.now();
    from = null;
  });
  area.addEventListener("pointercancel", () => { from = null; });
}
