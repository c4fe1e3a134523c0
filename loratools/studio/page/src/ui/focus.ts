// Where the focus goes when what had it is no longer there: a button that did its work and went away, a layer that was
// removed. The browser gives it to nothing at all, and whoever uses the keyboard would begin again at the page's top.

const FOCUSABLE = "button:not(:disabled), a[href], select:not(:disabled), [tabindex='0']";

export function followFocus(): void {
  let trail: HTMLElement[] = []; // the element that has the focus, and outwards all that it is in
  addEventListener("focusin", event => {
    trail = [];
    for (let one = event.target as HTMLElement | null; one && one !== document.body; one = one.parentElement) trail.push(one);
  });
  const lost = (): boolean => document.activeElement === document.body && trail[0] !== undefined && (!trail[0].isConnected || trail[0].matches(":disabled"));
  new MutationObserver(() => {
    if (!lost()) return;
    const at = trail.slice(1).find(one => one.isConnected);
    const to = at?.matches("main") ? at : at?.querySelector<HTMLElement>(FOCUSABLE);
    (to ?? document.querySelector<HTMLElement>("main"))?.focus({ preventScroll: true });
  }).observe(document.body, { childList: true, subtree: true, attributeFilter: ["disabled"] });
}
