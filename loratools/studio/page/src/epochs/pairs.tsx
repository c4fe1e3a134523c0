// Two pictures of one prompt and seed, nobody knows of which epoch: which is better?
import { useSignal } from "@preact/signals";
import { pictureUrl, post } from "../api/http";
import type { ComponentChildren } from "preact";
import type { GridDetail, Pair, VoteAnswer, VoteRequest } from "../api/types";
import { number, t } from "../state/i18n";
import { attempt } from "../state/notices";
import { Button, Dialog } from "../ui/controls";

export type Winner = VoteRequest["winner"];
const KEYS: Record<string, Winner> = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "none", "1": "left", "2": "right", "0": "none" };

interface PairsProps {
  grid: GridDetail;
  onVoted: (answer: VoteAnswer) => void;
  onClose: () => void;
}
export function Pairs({ grid, onVoted, onClose }: PairsProps) {
  const judged = useSignal(0);
  const { pair } = grid;
  const vote = async (winner: Winner): Promise<void> => {
    const answer = await attempt(() => post<VoteAnswer>("api/votes", { grid: grid.grid.id, left: pair!.left, right: pair!.right, winner }));
    if (!answer) return;
    judged.value += 1;
    onVoted(answer);
  };
  return (
    <PairDialog pair={pair} count={t("pairs.count", { now: judged.value, all: grid.pairs_seen })} onWinner={vote} onClose={onClose}>
      {judged.value > 0 ? <Standings grid={grid} /> : null}
    </PairDialog>
  );
}

interface PairDialogProps {
  pair: Pair | null;
  /** How many have been judged, in words. */
  count: string;
  onWinner: (winner: Winner) => Promise<void>;
  onClose: () => void;
  children?: ComponentChildren;
}
/** Two pictures and the question; a vote that is under way takes no second one. */
export function PairDialog({ pair, count, onWinner, onClose, children }: PairDialogProps) {
  const busy = useSignal(false);
  const vote = async (winner: Winner): Promise<void> => {
    if (!pair || busy.value) return;
    busy.value = true;
    await onWinner(winner);
    busy.value = false;
  };
  return (
    <Dialog title={t("pairs.title")} id="pairs" wide onClose={onClose}>
      <div class="pair" tabIndex={0} autofocus onKeyDown={event => {
        const winner = KEYS[event.key];
        if (!winner) return;
        event.preventDefault();
        void vote(winner);
      }}>
        {pair ? (["left", "right"] as const).map(side => (
          <button key={side} type="button" class="pair-side" disabled={busy.value} aria-label={t(`pairs.${side}`)} onClick={() => void vote(side)}>
            <img src={pictureUrl(side === "left" ? pair.left_picture : pair.right_picture)} alt={t(`pairs.${side}`)} />
          </button>
        )) : <p>{t("pairs.none")}</p>}
      </div>
      {children}
      <footer class="dialog-foot">
        <span class="hint" aria-live="polite">{count} {t("pairs.keys")}</span>
        {pair ? <Button label={t("pairs.none.better")} disabled={busy.value} onClick={() => void vote("none")} /> : null}
        <Button kind="primary" label={t("pairs.done")} onClick={onClose} />
      </footer>
    </Dialog>
  );
}

export function Standings({ grid }: { grid: GridDetail }) {
  if (grid.standings.length === 0) return null;
  return (
    <table class="figures">
      <thead><tr><th scope="col">{t("standings.row")}</th><th scope="col">{t("standings.rating")}</th><th scope="col">{t("standings.won")}</th><th scope="col">★</th></tr></thead>
      <tbody>
        {grid.standings.map(one => (
          <tr key={one.row}>
            <th scope="row">{one.row}</th>
            <td>{one.shown ? number(one.rating, 0) : "–"}</td>
            <td>{one.shown ? `${number(one.wins, 1)} / ${one.shown}` : "–"}</td>
            <td>{one.stars ? number(one.stars, 1) : "–"}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
