// What a newcomer does next, in three steps; it goes away by itself when the file is saved, or when it is closed.
import { computed, signal } from "@preact/signals";
import { saved } from "./state/choose";
import { t } from "./state/i18n";
import { go, href, route } from "./state/route";
import { recall, remember } from "./state/storage";
import { desk, untouched } from "./state/stack";
import { saving } from "./blocks/save_dialog";
import { Button, Icon } from "./ui/controls";

export const guideOpen = signal(true);
export const recallGuide = (): void => void (guideOpen.value = recall("guide", true));
export function showGuide(open: boolean): void {
  guideOpen.value = open;
  remember("guide", open);
}

export const step = computed<1 | 2 | 3 | 4>(() => {
  const { layers } = desk.value;
  if (layers.length === 0) return 1;
  if (saved.value === desk.value) return 4;
  return layers.every(untouched) ? 2 : 3;
});

export function Guide() {
  if (!guideOpen.value) return null;
  const at = step.value;
  const steps = [
    { n: 1, label: t("guide.1"), to: href("epochs") },
    { n: 2, label: t("guide.2"), to: href("blocks") },
    { n: 3, label: t("guide.3"), to: href("blocks") },
  ] as const;
  const page = route.value.page;
  return (
    <section class="guide" aria-label={t("guide")}>
      <ol>
        {steps.map(({ n, label, to }) => (
          <li key={n} class={n < at ? "done" : n === at ? "now" : ""}>
            <a href={to} aria-current={n === at ? "step" : undefined} onClick={() => {
              if (n === 3 && desk.peek().layers.length > 0) saving.value = true;
            }}>
              <span class="dot">{n < at ? <Icon name="check" /> : n}</span>{label}
            </a>
          </li>
        ))}
      </ol>
      <p aria-live="polite">{t(at === 1 ? (page === "epochs" ? "guide.1.here" : "guide.1.help") : at === 2 ? "guide.2.help" : at === 3 ? "guide.3.help" : "guide.4.help")}</p>
      {at === 1 && page !== "epochs" ? <Button small label={t("guide.1.go")} onClick={() => go("epochs")} /> : null}
      {at > 1 && at < 4 && page !== "blocks" ? <Button small label={t("page.blocks")} onClick={() => go("blocks")} /> : null}
      <Button label={t("guide.hide")} icon="close" bare small onClick={() => showGuide(false)} />
    </section>
  );
}
