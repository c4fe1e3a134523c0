// A training from the page: pictures, base, preset, and the settings that people change; its command stands there
// before the button is pressed.
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { asking } from "../api/asking";
import { failureOf, get, post } from "../api/http";
import type { Job, PictureFolder, Started, TrainJob, TrainPreset } from "../api/types";
import { t } from "../state/i18n";
import { attempt } from "../state/notices";
import { go } from "../state/route";
import { bases, folders, loadFolders, loadJobs, server } from "../state/studio";
import { Button, Command, Details, Dialog, Icon } from "../ui/controls";
import { numberIn } from "../ui/draft";

export const training = signal(false);
const REST = 300;

/** The settings that a person may set here, each as it is typed; an empty one is the preset's own. */
export const SETTINGS = ["epochs", "dim", "alpha", "unet_lr", "te_lr", "batch_size", "resolution", "repeats", "validation_split", "seed"] as const;
type Setting = (typeof SETTINGS)[number];

/** What is typed as what is sent: numbers as numbers, "512x768" as text, nothing where a field is empty. */
export function given(fields: Partial<Record<Setting, string>>): Record<string, number | string> {
  const sent: Record<string, number | string> = {};
  for (const [name, text] of Object.entries(fields)) {
    const word = text.trim();
    if (word === "") continue;
    sent[name] = (name === "resolution" && word.includes(",") ? null : numberIn(word)) ?? word;
  }
  return sent;
}

/** The preset for a base: the pocket base has its own, everything else begins with the style method's. */
export const presetFor = (base: string, presets: readonly TrainPreset[]): string =>
  presets.find(one => one.name === (base === "pocket" ? "pocket-style" : "style-004"))?.name ?? presets[0]?.name ?? "";

/** A run's name after its folder, beside which it is made. */
export const nameOf = (folder: PictureFolder | undefined): string =>
  (folder?.name ?? "").replace(/^\d+_/, "").replace(/[^\p{L}\p{N}_-]+/gu, "_").replace(/^_+|_+$/g, "").replace(/$/, "_lora").replace(/^_lora$/, "my_lora");

export function TrainDialog() {
  const presets = useSignal<readonly TrainPreset[]>([]);
  const images = useSignal("");
  const base = useSignal("");
  const preset = useSignal("");
  const name = useSignal("");
  const fields = useSignal<Partial<Record<Setting, string>>>({});
  const shown = useSignal<Started | null>(null);
  const fault = useSignal<string | null>(null);
  const busy = useSignal(false);
  const close = (): void => void (training.value = false);
  useEffect(() => {
    void loadFolders();
    void attempt(() => get<TrainPreset[]>("api/presets")).then(got => (presets.value = got ?? []));
  }, []);
  const folder = folders.value.find(one => one.id === images.value) ?? folders.value[0];
  const model = bases.value.find(one => one.id === base.value) ?? bases.value.at(-1);
  const chosen = presets.value.find(one => one.name === (preset.value || presetFor(model?.id ?? "", presets.value)));
  const job: TrainJob | null = folder && model && chosen ? {
    kind: "train", base: model.id, images: folder.id, root: folder.root, name: name.value.trim() || nameOf(folder),
    more: { preset: chosen.name, ...given(fields.value) },
  } : null;
  const asked = JSON.stringify(job);
  useEffect(() => {
    if (!job) return;
    return asking(() => post<Started>("api/jobs/command", job), answer => ([shown.value, fault.value] = [answer, null]), thrown => {
      const { sentence, remedy } = failureOf(thrown);
      [shown.value, fault.value] = [null, [sentence, remedy].filter(Boolean).join(": ")];
    }, REST);
  }, [asked]);
  const start = async (): Promise<void> => {
    if (!job) return;
    busy.value = true;
    const started = await attempt(() => post<Job>("api/jobs", job));
    busy.value = false;
    if (!started) return;
    await loadJobs();
    close();
    go("queue", started.id);
  };
  if (folders.value.length === 0) {
    return (
      <Dialog title={t("train")} id="train-dialog" onClose={close}>
        <p><Icon name="warn" /> {t("train.nofolder", { folders: (server.value?.roots ?? []).map(root => root.name).join(", ") })}</p>
        <footer class="dialog-foot"><Button label={t("close")} onClick={close} /></footer>
      </Dialog>
    );
  }
  return (
    <Dialog title={t("train")} id="train-dialog" onClose={close}>
      <p class="hint">{t("train.help")}</p>
      <div class="fields">
        <label class="field"><span>{t("train.images")}</span>
          <select id="train-images" value={folder?.id} onChange={event => (images.value = event.currentTarget.value)}>
            {folders.value.map(one => <option key={one.id} value={one.id}>{one.path} ({t("train.count", { pictures: one.pictures, captions: one.captions })})</option>)}
          </select>
        </label>
        <label class="field"><span>{t("base")}</span>
          <select id="train-base" value={model?.id} onChange={event => (base.value = event.currentTarget.value)}>
            {bases.value.map(one => <option key={one.id} value={one.id}>{one.name} ({one.family})</option>)}
          </select>
        </label>
        <label class="field"><span>{t("preset")}</span>
          <select id="train-preset" value={chosen?.name} onChange={event => (preset.value = event.currentTarget.value)}>
            {presets.value.map(one => <option key={one.name} value={one.name}>{one.name}</option>)}
          </select>
        </label>
        <label class="field"><span>{t("train.name")}</span>
          <input id="train-name" type="text" value={name.value} placeholder={nameOf(folder)} spellcheck={false} onInput={event => (name.value = event.currentTarget.value)} />
        </label>
      </div>
      {chosen ? <p class="hint">{chosen.source}</p> : null}
      {folder && folder.captions < folder.pictures ? <p class="hint"><Icon name="warn" /> {t("train.captions", { without: folder.pictures - folder.captions })}</p> : null}
      <Details title={t("train.more")}>
        <div class="fields">
          {SETTINGS.map(setting => (
            <label key={setting} class="field"><span>{t(`train.${setting}`)}</span>
              <input type="text" inputMode="decimal" data-setting={setting} value={fields.value[setting] ?? ""} placeholder={chosen?.settings[setting] ?? t("train.own")}
                onInput={event => (fields.value = { ...fields.value, [setting]: event.currentTarget.value })} />
            </label>
          ))}
        </div>
      </Details>
      {fault.value ? <p class="failure" role="alert"><Icon name="warn" /> {fault.value}</p> : null}
      {shown.value ? <><p class="label">{t("save.command")}</p><Command text={shown.value.command} label={t("command")} /></> : null}
      {shown.value?.step ? <Details title={t("save.step")}><Command text={shown.value.step} label={t("save.step")} /></Details> : null}
      <footer class="dialog-foot">
        <Button label={t("cancel")} onClick={close} />
        <Button id="train-now" kind="primary" label={t("train.start")} disabled={!job || busy.value || shown.value === null} onClick={() => void start()} />
      </footer>
    </Dialog>
  );
}
