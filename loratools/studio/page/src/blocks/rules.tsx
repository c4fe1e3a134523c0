// Kinds of layers that have a weight of their own in a block: what a search found, or a person wrote; edited and removed
// here, one step of undo each.
import { groupsOf } from "../state/choose";
import { t, tOr } from "../state/i18n";
import { blockOfRule, elementOfRule, ruleGroups } from "../state/rules";
import { details } from "../state/studio";
import { desk, selected, setRules, weightOf, type Layer } from "../state/stack";
import { Button, Details } from "../ui/controls";
import { NumberField } from "../ui/draft";

/** So many stand there at once; more are unfolded. */
const FEW = 12;

/** What a kind of layers is called: "self-attention", or the part of their names. */
const kindName = (rule: string): string => tOr(`kind.${elementOfRule(rule).replace(/_$/, "")}`, elementOfRule(rule));

export function Rules() {
  const layer = desk.value.layers[selected.value];
  if (!layer) return null;
  const blocks = groupsOf(layer).flatMap(group => group.blocks);
  const groups = ruleGroups(layer.vector, blocks);
  const offered = kindsOf(layer).filter(rule => !(rule in layer.vector));
  if (groups.length === 0 && offered.length === 0) return null;
  const count = groups.reduce((sum, { rules }) => sum + rules.length, 0);
  const list = (
    <ul class="rule-blocks">
      {groups.map(({ block, rules }) => (
        <li key={block} data-block={block}>
          <b>{block}</b>
          <ul>{rules.map(rule => <Rule key={rule} layer={layer} rule={rule} />)}</ul>
        </li>
      ))}
    </ul>
  );
  return (
    <section class="rules" aria-labelledby="rules-title">
      <header>
        <h3 id="rules-title">{t("rules")}</h3>
        <Add layer={layer} offered={offered} />
        {groups.length > 0 ? <Button id="no-rules" small label={t("rules.clear")} onClick={() => setRules(layer.key, groups.flatMap(({ rules }) => rules), null)} /> : null}
      </header>
      {groups.length > 0 ? <p class="hint">{t("rules.help")}</p> : null}
      {count > FEW ? <Details title={t("rules.many", { count, blocks: groups.length })}>{list}</Details> : list}
    </section>
  );
}

function Rule({ layer, rule }: { layer: Layer; rule: string }) {
  const name = `${blockOfRule(rule)} ${kindName(rule)}`;
  return (
    <li class="rule-chip" data-rule={rule} title={rule}>
      <span>{kindName(rule)}</span>
      <NumberField label={t("fader.exact", { block: name })} value={layer.vector[rule] ?? 1} min={-5} max={5} onChange={value => setRules(layer.key, [rule], value)} />
      <Button label={t("rules.remove", { name })} icon="close" bare small onClick={() => setRules(layer.key, [rule], null)} />
    </li>
  );
}

/** A kind of layers that has no weight of its own yet gets its block's. */
function Add({ layer, offered }: { layer: Layer; offered: readonly string[] }) {
  if (offered.length === 0) return null;
  const blocks = [...new Set(offered.map(blockOfRule))];
  return (
    <select id="add-rule" aria-label={t("rules.add")} value="" onChange={event => {
      const rule = event.currentTarget.value;
      event.currentTarget.value = "";
      if (rule) setRules(layer.key, [rule], weightOf(layer, blockOfRule(rule)));
    }}>
      <option value="">{t("rules.add")}</option>
      {blocks.map(block => (
        <optgroup key={block} label={block}>
          {offered.filter(rule => blockOfRule(rule) === block).map(rule => <option key={rule} value={rule}>{block} {kindName(rule)}</option>)}
        </optgroup>
      ))}
    </select>
  );
}

/** The rules that part the blocks of a layer's file by kinds of layers. */
const kindsOf = (layer: Layer): string[] => details.value.get(layer.lora)?.scheme.blocks.flatMap(block => block.kinds) ?? [];
