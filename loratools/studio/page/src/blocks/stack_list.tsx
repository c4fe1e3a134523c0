// The stack: which LoRAs, how strong, which one's blocks are on the desk.
import { useSignal } from "@preact/signals";
import { dropLayer } from "../state/choose";
import { t } from "../state/i18n";
import { bases, lorasById } from "../state/studio";
import { canRedo, canUndo, change, desk, editLayer, moveLayer, redo, selected, undo, untouched, type Layer } from "../state/stack";
import { Button, Icon } from "../ui/controls";
import { NumberField } from "../ui/draft";
import { Fader } from "../ui/fader";
import { AddDialog } from "./add_dialog";

export function StackList() {
  const adding = useSignal(false);
  return (
    <section class="panel stack" aria-labelledby="stack-title">
      <header>
        <h2 id="stack-title">{t("stack")}</h2>
        <div class="tools">
          <Button label={t("undo")} icon="undo" bare disabled={!canUndo.value} onClick={undo} />
          <Button label={t("redo")} icon="redo" bare disabled={!canRedo.value} onClick={redo} />
          <Button id="add-lora" label={t("stack.add")} icon="plus" onClick={() => (adding.value = true)} />
        </div>
      </header>
      <label class="field">
        <span>{t("base")}</span>
        <select value={desk.value.base} onChange={event => change({ ...desk.value, base: event.currentTarget.value })}>
          {bases.value.some(base => base.id === desk.value.base) ? null : <option value="">{t("base.none")}</option>}
          {bases.value.map(base => <option key={base.id} value={base.id}>{base.name} ({base.family})</option>)}
        </select>
      </label>
      {bases.value.length === 0 ? <p class="failure"><Icon name="warn" /> {t("base.missing")}</p> : null}
      <ol class="layers">
        {desk.value.layers.map((layer, n) => <Card key={layer.key} layer={layer} at={n} />)}
      </ol>
      {desk.value.layers.length === 0 ? <p class="hint">{t("stack.empty")}</p> : null}
      {adding.value ? <AddDialog onClose={() => (adding.value = false)} /> : null}
    </section>
  );
}

function Card({ layer, at }: { layer: Layer; at: number }) {
  const lora = lorasById.value.get(layer.lora);
  const current = selected.value === at;
  const last = desk.value.layers.length - 1;
  const set = (fields: Partial<Layer>): void => editLayer(layer.key, fields);
  return (
    <li class={current ? "layer current" : "layer"}>
      <div class="layer-head">
        <button type="button" class="layer-name" title={layer.place} aria-pressed={current} onClick={() => (selected.value = at)}>
          <b>{layer.name}</b>
          <small>{layer.weight < 0 ? t("stack.role.minus") : t("stack.role.plus")}{untouched(layer) ? "" : ` · ${t("stack.weighed")}`}</small>
        </button>
        <Button label={t("stack.up", { name: layer.name })} icon="up" bare small disabled={at === 0} onClick={() => moveLayer(layer.key, -1)} />
        <Button label={t("stack.down", { name: layer.name })} icon="down" bare small disabled={at === last} onClick={() => moveLayer(layer.key, 1)} />
        <Button label={t("stack.remove", { name: layer.name })} icon="close" bare small onClick={() => dropLayer(layer.key)} />
      </div>
      {lora ? null : <p class="failure"><Icon name="warn" /> {t("stack.gone")}</p>}
      <div class="strength">
        <span>{t("strength")}</span>
        <Fader label={t("strength.of", { name: layer.name })} value={layer.weight} min={Math.min(-1.5, layer.weight)} max={Math.max(1.5, layer.weight)}
          rest={layer.weight < 0 ? -1 : 1} upright={false} onChange={weight => set({ weight })} />
        <NumberField label={t("strength.of", { name: layer.name })} value={layer.weight} min={-5} max={5} onChange={weight => set({ weight })} />
      </div>
      {current ? (
        <div class="parts">
          <label><span>{t("part.te")}</span><NumberField label={t("part.te.help")} value={layer.te} min={-5} max={5} onChange={te => set({ te })} /></label>
          <label><span>{t("part.unet")}</span><NumberField label={t("part.unet.help")} value={layer.unet} min={-5} max={5} onChange={unet => set({ unet })} /></label>
          <Button label={t(layer.weight < 0 ? "stack.plus" : "stack.minus")} small title={t("stack.minus.help")} onClick={() => set({ weight: -layer.weight })} />
        </div>
      ) : null}
    </li>
  );
}
