// The mixing desk: one strip a block of the selected LoRA, in the groups of its model family.
import { useComputed } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { groupsOf } from "../state/choose";
import { explained } from "../state/explain";
import { percent, said, t, tOr } from "../state/i18n";
import { blockOfRule, isRule } from "../state/rules";
import { details, loadDetail } from "../state/studio";
import { desk, effective, rounded, selected, setWeight, shiftWeights, toggle, weightOf, type Layer } from "../state/stack";
import { narrow } from "../state/theme";
import { NumberField } from "../ui/draft";
import { Fader } from "../ui/fader";

const LOW = -0.5;
const HIGH = 1.5;

/** The scale of all faders: -0.5 to 1.5, wider where a value lies outside. */
export function scaleOf(layer: Layer): { min: number; max: number } {
  const values = Object.entries(layer.vector).filter(([name]) => !isRule(name)).map(([, weight]) => weight);
  return { min: Math.min(LOW, ...values), max: Math.max(HIGH, ...values) };
}

/** A block's share of the LoRA's own norm; of the whole stack's where the file's own is not known yet. */
const shareOf = (lora: string, block: string): number | null =>
  details.value.get(lora)?.scheme.blocks.find(one => one.name === block)?.norm_share ?? explained.value?.shares[block] ?? null;

export function Faders() {
  const layer = desk.value.layers[selected.value];
  const lora = layer?.lora;
  useEffect(() => {
    if (lora) void loadDetail(lora);
  }, [lora]);
  if (!layer) return null;
  const groups = groupsOf(layer);
  if (groups.length === 0) return <p class="hint">{t("faders.loading")}</p>;
  const most = Math.max(0.001, ...groups.flatMap(({ blocks }) => blocks.map(block => shareOf(layer.lora, block) ?? 0)));
  const count = groups.reduce((sum, group) => sum + group.blocks.length, 0);
  return (
    <div class={`desk ${narrow.value ? "rows" : "columns"}${count > 30 ? " many" : ""}`} role="group" aria-label={t("faders", { name: layer.name })}>
      {groups.map(({ group, blocks }) => (
        <div class="group" role="group" aria-label={tOr(`group.${group}`, group)} key={group} style={{ flex: `${blocks.length} 1 ${43 * Math.min(blocks.length, 12) + 14}px` }}>
          <div class="group-head">
            <span title={tOr(`group.${group}.help`, group)}>{tOr(`group.${group}`, group)}</span>
            {blocks.length > 1 ? <GroupFader layer={layer.key} group={group} blocks={blocks} /> : null}
          </div>
          <div class="strips">
            {blocks.map(block => <Strip key={`${layer.key} ${block}`} layer={layer.key} lora={layer.lora} block={block} most={most} />)}
          </div>
        </div>
      ))}
    </div>
  );
}

/** Moves all blocks of a group by the same amount. */
function GroupFader({ layer: key, group, blocks }: { layer: number; group: string; blocks: string[] }) {
  const layer = desk.value.layers.find(one => one.key === key);
  if (!layer) return null;
  const mean = rounded(blocks.reduce((sum, block) => sum + weightOf(layer, block), 0) / blocks.length);
  const { min, max } = scaleOf(layer);
  const shift = (next: number): void => {
    const now = Object.fromEntries(blocks.map(block => [block, weightOf(layer, block)]));
    shiftWeights(key, now, blocks, rounded(next - mean));
  };
  return <Fader label={t("fader.group", { group })} value={mean} min={min} max={max} rest={1} upright={false}
    text={t("fader.mean", { value: mean })} onChange={shift} />;
}

function Strip({ layer: key, lora, block, most }: { layer: number; lora: string; block: string; most: number }) {
  // a value of another block changes nothing here: this strip alone is drawn anew when its own changes; the key of a
  // strip names its layer, since this is computed anew for changes of the desk alone
  const own = useComputed(() => {
    const layer = desk.value.layers.find(one => one.key === key);
    if (!layer) return null;
    const { min, max } = scaleOf(layer);
    const muted = layer.muted.includes(block);
    const solo = layer.solo.includes(block);
    const silent = effective(layer, block) === 0 && weightOf(layer, block) !== 0;
    const rules = Object.keys(layer.vector).filter(name => isRule(name) && blockOfRule(name) === block).length;
    return `${weightOf(layer, block)} ${min} ${max} ${Number(muted)} ${Number(solo)} ${Number(silent)} ${rules}`;
  });
  const info = details.value.get(lora)?.scheme.blocks.find(one => one.name === block);
  const share = shareOf(lora, block);
  if (own.value === null) return null;
  const [value, min, max, muted, solo, silent, rules] = own.value.split(" ").map(Number) as [number, number, number, number, number, number, number];
  const upright = !narrow.value;
  const set = (next: number): void => setWeight(key, block, next);
  const mute = (): void => toggle(key, "muted", [block]);
  const single = (): void => toggle(key, "solo", [block]);
  const length = `scale${upright ? "Y" : "X"}(${(share ?? 0) / most})`;
  return (
    <div class={`strip${silent ? " silent" : ""}`} data-block={block}>
      <NumberField label={t("fader.exact", { block })} value={value} min={-5} max={5} onChange={set} />
      <div class="lane">
        <div class="share" title={share === null ? "" : t("fader.share", { share: percent(share) })}>
          <div style={{ transform: length }} />
        </div>
        <Fader label={block} value={value} min={min} max={max} rest={1} upright={upright} dim={silent === 1} onChange={set}
          text={silent ? t("fader.silent", { value }) : String(value)}
          onKey={pressed => {
            if (pressed === "m") mute();
            else if (pressed === "s") single();
            else return false;
            return true;
          }} />
      </div>
      <Name block={block} help={info?.help ? said(info.help) : ""} rules={rules} />
      <span class="percent" title={share === null ? "" : t("fader.share", { share: percent(share) })}>{share === null ? "–" : percent(share)}</span>
      <div class="ms">
        <button type="button" class="mark" aria-pressed={muted === 1} aria-label={t("fader.mute", { block })} title={t("fader.mute", { block })} onClick={mute}>M</button>
        <button type="button" class="mark" aria-pressed={solo === 1} aria-label={t("fader.solo", { block })} title={t("fader.solo", { block })} onClick={single}>S</button>
      </div>
    </div>
  );
}

/** A block's name, filled from below by how much of the block has changed from "before" to "now". */
function Name({ block, help, rules }: { block: string; help: string; rules: number }) {
  const part = explained.value?.heat?.find(one => one.block === block)?.change ?? 0;
  const changed = part > 0 ? t("fader.change", { change: percent(part) }) : "";
  const parted = rules > 0 ? t("rules.of", { count: rules }) : "";
  return (
    <span class={rules > 0 ? "name parted" : "name"} title={[help, changed, parted].filter(Boolean).join(" · ")}>
      <span class="heat" style={{ transform: `scaleY(${Math.min(1, part)})` }} />
      <span class="word">{block}</span>
      {changed || parted ? <span class="unseen">{[changed, parted].filter(Boolean).join(" · ")}</span> : null}
    </span>
  );
}
