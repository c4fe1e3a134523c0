// What the pictures are of: prompts and seeds that stay, and how they are drawn.
import { t } from "../state/i18n";
import { MOST_SCENES, sampling, scenes, type Scene } from "../state/live";
import { bases, catalogs } from "../state/studio";
import { desk } from "../state/stack";
import { Button } from "../ui/controls";
import { DraftField, NumberField, OptionalNumber } from "../ui/draft";

const edit = (at: number, fields: Partial<Scene>): void =>
  void (scenes.value = scenes.value.map((scene, n) => (n === at ? { ...scene, ...fields } : scene)));

export function Scenes() {
  const base = bases.value.find(one => one.id === desk.value.base);
  const samplers = catalogs.value.get(base?.family ?? "")?.samplers ?? [];
  const own = sampling.value;
  const set = (fields: Partial<typeof own>): void => void (sampling.value = { ...own, ...fields });
  return (
    <>
      {scenes.value.map((scene, n) => (
        <fieldset class="scene-fields" key={n}>
          <legend>{t("scene.number", { number: n + 1 })}</legend>
          <label class="field wide"><span>{t("scene.prompt")}</span>
            <DraftField rows={2} shown={scene.prompt} onTake={prompt => edit(n, { prompt: prompt })} />
          </label>
          <label class="field wide"><span>{t("scene.negative")}</span>
            <DraftField shown={scene.negative} onTake={negative => edit(n, { negative: negative })} />
          </label>
          <label class="field"><span>{t("scene.seed")}</span>
            <NumberField label={t("scene.seed")} value={scene.seed} min={0} max={Number.MAX_SAFE_INTEGER} step={1} onChange={seed => edit(n, { seed })} />
          </label>
          <Button small label={t("scene.remove")} disabled={scenes.value.length === 1} onClick={() => (scenes.value = scenes.value.filter((_, at) => at !== n))} />
        </fieldset>
      ))}
      <div class="tools">
        <Button small icon="plus" label={t("scene.add")} disabled={scenes.value.length >= MOST_SCENES}
          onClick={() => (scenes.value = [...scenes.value, { ...(scenes.value.at(-1) ?? { prompt: "", negative: "", seed: 0 }), seed: (scenes.value.at(-1)?.seed ?? 0) + 1 }])} />
      </div>
      <div class="sampling">
        <label class="field"><span>{t("sampling.steps")}</span>
          <OptionalNumber placeholder={t("sampling.own")} value={own.steps ?? null} min={1} max={200} step={1} onChange={steps => set({ steps })} />
        </label>
        <label class="field"><span>CFG</span>
          <OptionalNumber placeholder={t("sampling.own")} value={own.cfg ?? null} min={0} max={100} onChange={cfg => set({ cfg })} />
        </label>
        <label class="field"><span>{t("sampling.sampler")}</span>
          <select value={own.sampler ?? ""} onChange={event => set({ sampler: event.currentTarget.value || null })}>
            <option value="">{t("sampling.own")}</option>
            {samplers.map(name => <option key={name} value={name}>{name}</option>)}
          </select>
        </label>
        <label class="field"><span>{t("sampling.size")}</span>
          <select value={own.size?.join("x") ?? ""} onChange={event => set({ size: sizeOf(event.currentTarget.value) })}>
            <option value="">{t("sampling.own")}{base ? ` (${base.size.join(" × ")})` : ""}</option>
            {sizesFor(base?.size).map(size => <option key={size.join()} value={size.join("x")}>{size.join(" × ")}</option>)}
          </select>
        </label>
      </div>
    </>
  );
}

const sizeOf = (text: string): [number, number] | null => {
  const [width, height] = text.split("x").map(Number);
  return width && height ? [width, height] : null;
};

/** Square, portrait and landscape of about the base's own number of pixels. */
export function sizesFor(own: [number, number] | undefined): [number, number][] {
  if (!own) return [];
  const side = Math.round(Math.sqrt(own[0] * own[1]));
  const to = (value: number): number => Math.max(64, Math.round(value / 64) * 64);
  return [[to(side), to(side)], [to(side * 0.82), to(side * 1.22)], [to(side * 1.22), to(side * 0.82)]];
}
