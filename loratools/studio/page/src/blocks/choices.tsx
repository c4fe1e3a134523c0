// A search by a person's choices: it draws, asks about pairs, and goes on with the answers.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { asking } from "../api/asking";
import { get, post } from "../api/http";
import type { Job, Round } from "../api/types";
import { PairDialog, type Winner } from "../epochs/pairs";
import { t } from "../state/i18n";
import { attempt } from "../state/notices";
import { loadJobs } from "../state/studio";
import { Button } from "../ui/controls";

/** What a search asks now, wherever its job is shown; nothing while it runs, or when it is through. */
export function Choices({ job }: { job: Job }) {
  const round = useSignal<Round | null>(null);
  const open = useSignal(false);
  const address = `api/jobs/${encodeURIComponent(job.id)}`;
  useEffect(() => {
    round.value = null;
    return !job.asks ? undefined : asking(() => get<Round>(`${address}/round`), got => (round.value = got));
  }, [job.id, job.asks, job.ended]);
  const asked = round.value;
  if (!job.asks || !asked) return null;
  const vote = async (winner: Winner): Promise<void> => {
    const { left, right } = asked.pair!;
    const next = await attempt(() => post<Round>(`${address}/round`, { left, right, winner }));
    if (!next) return;
    round.value = next;
    if (!next.pair) open.value = false;
  };
  const goOn = async (): Promise<void> => {
    await attempt(() => post(address, { do: "resume" }));
    await loadJobs();
  };
  const count = t("choices.count", { answered: asked.answered, pairs: asked.pairs });
  return (
    <div class="choices">
      <p>{t("choices.asks", { number: asked.number })} {count}</p>
      <div class="tools">
        {asked.pair ? <Button id="choose" kind={asked.enough ? "plain" : "primary"} label={t("choices.open")} onClick={() => (open.value = true)} /> : null}
        {asked.enough ? <Button id="go-on" kind="primary" label={t("choices.go")} onClick={() => void goOn()} /> : null}
      </div>
      {open.value ? <PairDialog pair={asked.pair} count={count} onWinner={vote} onClose={() => (open.value = false)} /> : null}
    </div>
  );
}
