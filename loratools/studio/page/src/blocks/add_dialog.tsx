// Which LoRA to add: those of the opened folders, found by any part of name or path; a run's epochs stand together.
import { useSignal } from "@preact/signals";
import { nameOf, placeOf, useLora } from "../state/choose";
import { number, t } from "../state/i18n";
import { bases, loras } from "../state/studio";
import { desk } from "../state/stack";
import type { Lora } from "../api/types";
import { Button, Dialog } from "../ui/controls";

const MOST = 200; // rows at once: whoever has more types a few letters

export const matches = (lora: Lora, words: string): boolean => {
  const text = `${lora.name} ${lora.path} ${lora.family} ${lora.trigger ?? ""} ${lora.epoch ?? ""}`.toLowerCase();
  return words.toLowerCase().split(/\s+/).every(word => text.includes(word));
};

export function AddDialog({ onClose }: { onClose: () => void }) {
  const words = useSignal("");
  const minus = useSignal(false);
  const family = bases.value.find(base => base.id === desk.value.base)?.family;
  const inUse = desk.value.layers.length > 0 ? family : undefined;
  const all = (loras.value ?? []).filter(lora => matches(lora, words.value));
  const add = (lora: Lora): void => {
    useLora(lora, minus.value ? -1 : 1);
    onClose();
  };
  return (
    <Dialog title={t("add.title")} id="add-dialog" onClose={onClose}>
      <div class="add-tools">
        <input class="search" type="search" autofocus placeholder={t("add.search")} aria-label={t("add.search")} value={words.value}
          onInput={event => (words.value = event.currentTarget.value)} />
        <label class="check">
          <input type="checkbox" checked={minus.value} onChange={event => (minus.value = event.currentTarget.checked)} />
          <span>{t("add.minus")}</span>
        </label>
      </div>
      {all.length === 0 ? <p class="hint">{t(loras.value?.length ? "add.nothing" : "add.none")}</p> : null}
      <ul class="files">
        {all.slice(0, MOST).map(lora => {
          const other = inUse !== undefined && lora.family !== inUse;
          return (
            <li key={lora.id}>
              <button type="button" disabled={other} onClick={() => add(lora)}>
                <b>{nameOf(lora)}</b>
                <small>{lora.family}{lora.rank ? ` · ${t("add.rank", { rank: lora.rank })}` : ""} · {t("add.size", { size: number(lora.bytes / 1e6, 1) })}{other ? ` · ${t("add.other", { family: inUse })}` : ""}</small>
                <small class="path">{placeOf(lora)}</small>
              </button>
            </li>
          );
        })}
      </ul>
      {all.length > MOST ? <p class="hint">{t("add.more", { count: all.length - MOST })}</p> : null}
      <footer class="dialog-foot"><Button label={t("close")} onClick={onClose} /></footer>
    </Dialog>
  );
}
