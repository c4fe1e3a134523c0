// One picture as large as the window; arrows go to its neighbours, a held Space shows what it is compared with.
import { useSignal } from "@preact/signals";
import { pictureUrl } from "../api/http";
import { t } from "../state/i18n";
import { Button, Dialog } from "../ui/controls";
import type { GridPicture } from "./picture_grid";

interface LargeProps {
  cell: GridPicture;
  /** What a held Space shows, usually the base at the same prompt and seed. */
  other: GridPicture | null;
  onKey: (key: string) => boolean;
  onStars?: (stars: number) => void;
  onUse?: (() => void) | null;
  onClose: () => void;
}

export function Large({ cell, other, onKey, onStars, onUse, onClose }: LargeProps) {
  const flipped = useSignal(false);
  const flip = (on: boolean): void => void (flipped.value = on && other !== null);
  const shown = flipped.value && other ? other : cell;
  return (
    <Dialog title={shown.title} id="large" wide onClose={onClose}>
      <div class="large" tabIndex={0} autofocus
        onKeyDown={event => {
          if (event.key === " ") flip(true);
          else if (/^[0-5]$/.test(event.key) && onStars) onStars(Number(event.key));
          else if (!onKey(event.key)) return;
          event.preventDefault();
        }}
        onKeyUp={event => {
          if (event.key === " ") flip(false);
        }}
        onPointerDown={() => flip(true)} onPointerUp={() => flip(false)} onPointerLeave={() => flip(false)}>
        <img src={pictureUrl(shown.picture)} alt={shown.title} />
        {other ? <img class="ahead" src={pictureUrl(other.picture)} alt="" aria-hidden="true" /> : null}
      </div>
      <footer class="dialog-foot">
        {onStars ? <Stars stars={cell.stars ?? 0} onStars={onStars} /> : null}
        <span class="hint">{other ? t("large.hold") : t("large.keys")}</span>
        {onUse ? <Button kind="primary" label={t("epoch.use")} onClick={onUse} /> : null}
      </footer>
    </Dialog>
  );
}

function Stars({ stars, onStars }: { stars: number; onStars: (stars: number) => void }) {
  return (
    <div class="rate" role="radiogroup" aria-label={t("stars.give")}>
      {[1, 2, 3, 4, 5].map(n => (
        <button key={n} type="button" role="radio" aria-checked={stars === n} aria-label={t("stars", { stars: n })} class={n <= stars ? "on" : ""}
          onClick={() => onStars(stars === n ? 0 : n)}>{n <= stars ? "★" : "☆"}</button>
      ))}
    </div>
  );
}
