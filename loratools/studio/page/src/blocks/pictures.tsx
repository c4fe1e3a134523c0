// Base, before and now of each scene. A canvas keeps its last picture until the next one has been decoded.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { t, told } from "../state/i18n";
import { attach, bitmapOf, keep, kept, scenes, stream, streamOf, type Kind } from "../state/live";
import { desk } from "../state/stack";
import { Button, Dialog, Icon } from "../ui/controls";
import { heat } from "./heat";
import { compared } from "./memory";
import { Scenes } from "./scenes";

export function Pictures() {
  const change = useSignal(false);
  const editing = useSignal(false);
  const slots = compared();
  const kinds: Kind[] = slots.length > 0 ? [...slots, "now"] : ["base", "before", "now"];
  const other: Kind = slots[0] ?? "before";
  return (
    <section class="pictures" aria-label={t("pictures")}>
      <div class={scenes.value.length > 1 ? "scenes several" : "scenes"}>
        {scenes.value.map((scene, n) => (
          <div class="scene" key={n}>
            {kinds.map(kind => (
              <Picture key={kind} scene={n} kind={kind} prompt={scene.prompt} other={other} change={kind === "now" && change.value ? other : null} />
            ))}
          </div>
        ))}
      </div>
      <div class="beside-pictures">
        <ul class="prompts">
          {scenes.value.map((scene, n) => <li key={n} title={scene.prompt}><q>{scene.prompt || t("scene.noprompt")}</q> <small>{t("scene.seed")} {scene.seed}</small></li>)}
        </ul>
        <Button label={t("scenes.edit")} onClick={() => (editing.value = true)} />
        <Button label={t("pictures.keep")} icon="flag" title={t("pictures.keep.help")}
          disabled={kept.value === desk.value} onClick={keep} />
        <Button label={t("pictures.change")} icon="heat" title={t("pictures.change.help")} pressed={change.value}
          onClick={() => (change.value = !change.value)} />
        <p class="hint">{t("pictures.hold")}</p>
      </div>
      {editing.value ? <Dialog title={t("scenes")} id="scenes" onClose={() => (editing.value = false)}><Scenes /></Dialog> : null}
    </section>
  );
}

interface PictureProps {
  scene: number;
  kind: Kind;
  prompt: string;
  /** What is seen in the place of "now" while it is held. */
  other: Kind;
  change: Kind | null;
}
function Picture({ scene, kind, prompt, other, change }: PictureProps) {
  const number = streamOf(scene, kind);
  const canvas = useRef<HTMLCanvasElement>(null);
  const overlay = useRef<HTMLCanvasElement>(null);
  const { shown, failure } = stream(number);
  const held = useSignal(false);
  useEffect(() => attach(held.value ? streamOf(scene, other) : number, canvas.current!), [number, other, held.value]);
  const against = change ? streamOf(scene, change) : null;
  const version = against === null ? "" : `${shown.value?.seq} ${stream(against).shown.value?.seq}`;
  useEffect(() => {
    const [now, then] = [bitmapOf(number), against === null ? undefined : bitmapOf(against)];
    if (overlay.current && now && then) heat(overlay.current, then, now);
  }, [version, against]);
  const hold = (on: boolean): void => void (kind === "now" && (held.value = on));
  const name = t(`picture.${held.value ? other : kind}`);
  const empty = shown.value === null && !failure.value;
  const size = shown.value ? `${shown.value.width} / ${shown.value.height}` : undefined;
  return (
    <figure class={`picture ${kind}`} data-stream={number} data-seq={shown.value?.seq} data-preview={shown.value?.preview}>
      <figcaption>
        <b>{name}</b>
        <Status scene={scene} kind={kind} />
      </figcaption>
      <div
        class={`canvas${empty ? " empty" : ""}${shown.value && shown.value.width < 256 ? " pixels" : ""}`}
        style={size ? { aspectRatio: size } : {}}
        title={prompt}
        {...(kind === "now" ? { tabIndex: 0, role: "button", "aria-label": `${name}: ${prompt}. ${t("pictures.hold")}`, "aria-pressed": held.value } : {})}
        onPointerDown={() => hold(true)}
        onPointerUp={() => hold(false)}
        onPointerLeave={() => hold(false)}
        onPointerCancel={() => hold(false)}
        onBlur={() => hold(false)}
        onKeyDown={event => {
          if (event.key !== " " && event.key !== "Enter") return;
          event.preventDefault(); // a space would scroll
          hold(true);
        }}
        onKeyUp={() => hold(false)}
      >
        <canvas ref={canvas} role="img" aria-label={`${name}: ${prompt}`} width={1} height={1} />
        {change ? <canvas ref={overlay} class="overlay" aria-hidden="true" /> : null}
        {empty ? <span class="waiting">{t(desk.value.base ? "picture.coming" : "picture.nobase")}</span> : null}
      </div>
      {failure.value ? (
        <p class="failure" role="alert">
          <Icon name="warn" /> {told(failure.value).join(". ")}
        </p>
      ) : null}
    </figure>
  );
}

/** Few steps or whole, how long it took, or how far it is. */
function Status({ scene, kind }: { scene: number; kind: Kind }) {
  const { shown, progress, waiting } = stream(streamOf(scene, kind));
  const drawing = progress.value;
  const is = shown.value;
  if (drawing) {
    return (
      <span class="status">
        {is?.preview ? `${t("picture.preview")} · ` : ""}
        {t("picture.step", { step: drawing.step, steps: drawing.steps })}
      </span>
    );
  }
  if (!is) return null;
  if (is.preview) return <span class="status preview">{t("picture.preview")}</span>;
  if (waiting.value) return <span class="status">{t("picture.drawing")}</span>;
  return kind === "now" ? <span class="status whole">{t("picture.whole")}</span> : null;
}
