// A single cell as large as the window, alone or beside what it is compared with.
const light = { side: false, returning: false };

function openLight(cell) {
  setFocus(cell, false);
  openDialog($("light"));
  light.returning = true; // closing gives the focus back to where it came from; the cell last seen gets it instead
  showLight();
}
function openDialog(dialog) { // the keys belong to the picture, not to the first button
  if (dialog.open) return;
  dialog.showModal();
  dialog.focus();
}
function figure(cell, caption) {
  const made = frame(cell, true);
  made.setAttribute("role", "img");
  made.ariaLabel = [name(cell), rest(cell)].filter(Boolean).join(", ");
  return element("figure", {}, made, caption ? element("figcaption", { textContent: caption }) : null);
}
function showLight() {
  const cell = focus.cell, other = reference(cell), two = light.side && other && other !== cell;
  const figures = $("stage").querySelectorAll("figure");
  if (figures.length === 1 && !two) setFrame(figures[0].firstChild, cell); // keeps the element: no flash
  else $("stage").replaceChildren(...(two ? [figure(other, name(other))] : []), figure(cell, two ? name(cell) : ""));
  $("stage").classList.toggle("two", Boolean(two));
  const large = lightFrame();
  large.classList.remove("flipped");
  large.ariaLabel = [name(cell), rest(cell)].filter(Boolean).join(", ");
  setOther(large, other); // already there, so that flipping is instant
  compare(large);
  if (!view.diff) setOther(large, other);
  $("side").setAttribute("aria-pressed", light.side);
  $("light-diff").setAttribute("aria-pressed", view.diff);
  $("hold-name").textContent = other ? name(other) : "base";
  captionLight(cell, other);
}
function captionLight(cell, other) {
  const stars = votes.stars[cell.key] ? " " + "★".repeat(votes.stars[cell.key]) : "";
  const more = [rest(cell), cell.verdict?.[1], cell.badge, view.diff && other ? `difference from ${name(other)}` : ""];
  $("caption").replaceChildren(element("b", { textContent: name(cell) + stars }),
    ...more.filter(Boolean).map(text => "  ·  " + text));
}
const lightFrame = () => $("stage").querySelector("figure:last-child .frame");

function flipNow(on, base) { // the picture under the eye: the large one, or the focused one in the sheet
  const made = $("light").open ? lightFrame() : buttons.get(focus.cell)?.firstChild;
  if (!made || made.classList.contains("flipped") === on) return;
  const other = reference(focus.cell, base);
  if (on && !other) { say("There is no base in this grid; pin a cell with P"); return; }
  flip(made, on, base);
  if (!$("light").open) return;
  if (!on) { showLight(); return; }
  $("caption").replaceChildren(element("b", { textContent: name(other) }), "  ·  " + rest(other));
}

function lights() {
  zoomable($("light"), true);
  $("stage").addEventListener("dblclick", event => {
    const box = event.target.closest(".frame")?.getBoundingClientRect();
    if (!box) return;
    if (view.zoom > 1) zoomAway();
    else zoomBy(4, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  $("side").addEventListener("click", toggleSide);
  $("light-diff").addEventListener("click", toggleDiff);
  $("close").addEventListener("click", () => $("light").close());
  for (const dialog of [$("light"), $("blind")]) { // a mouse click leaves the keys, above all Space, to the picture
    dialog.addEventListener("click", event => { if (event.detail && dialog.open) dialog.focus(); });
  }
  $("light").addEventListener("close", () => { light.returning = false; flipNow(false); setFocus(focus.cell, true); });
  $("hold").addEventListener("pointerdown", () => flipNow(true, false));
  for (const end of ["pointerup", "pointerleave"]) $("hold").addEventListener(end, () => flipNow(false));
}
function toggleSide() { light.side = !light.side; showLight(); }
