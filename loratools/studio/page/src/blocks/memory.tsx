// Two stacks to flip between, and what is muted.
import { t } from "../state/i18n";
import { comparing, memory } from "../state/live";
import { change, desk, editLayer, selected } from "../state/stack";
import { Button } from "../ui/controls";

type Slot = "a" | "b";

/** The slots that hold a stack while they are compared with what is there now; none while they are not. */
export const compared = (): Slot[] => (comparing.value ? (["a", "b"] as const).filter(slot => memory.value[slot] !== null) : []);

export const store = (slot: Slot): void => void (memory.value = { ...memory.value, [slot]: desk.value });
export const recallSlot = (slot: Slot): void => {
  const held = memory.value[slot];
  if (held) change({ ...held, base: desk.value.base });
};

/** From A to B and back; from anywhere else, to A. */
export function flip(): void {
  const { a, b } = memory.value;
  if (a && b) recallSlot(desk.value.layers === a.layers ? "b" : "a");
}

export function Memory() {
  const layer = desk.value.layers[selected.value];
  const silent = layer && (layer.muted.length > 0 || layer.solo.length > 0);
  return (
    <div class="memory" role="group" aria-label={t("memory")}>
      {(["a", "b"] as const).map(slot => {
        const name = slot.toUpperCase();
        const held = memory.value[slot];
        return (
          <span class="slot" key={slot}>
            <Button small label={t("memory.store", { slot: name })} title={t("memory.store.help", { slot: name })} onClick={() => store(slot)} />
            <Button small label={t("memory.recall", { slot: name })} disabled={!held} pressed={held !== null && held.layers === desk.value.layers} onClick={() => recallSlot(slot)} />
          </span>
        );
      })}
      <Button small label={t("memory.compare")} pressed={comparing.value} disabled={!memory.value.a && !memory.value.b} onClick={() => (comparing.value = !comparing.value)} />
      {silent ? <Button small label={t("unmute")} onClick={() => editLayer(layer.key, { muted: [], solo: [] })} /> : null}
    </div>
  );
}
