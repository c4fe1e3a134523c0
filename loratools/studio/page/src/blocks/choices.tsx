// A search by a person's choices: it draws, asks about pairs, and goes on with the answers.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, post } from "../api/http";
import type { Job, Round } from "../api/types";
import { PairDialog, type Winner } from "../epochs/pairs";
import { t } from "../state/i18n";
import { attempt } from "../state/notices";
import { JobLine } from "../queue/job_line";
import { Button } from "../ui/controls";

const OVER: readonly Job["state"][] = ["done", "failed", "paused"];

/** What a search that has ended asks next; nothing while it runs, or when it is through. */
export function Choices({ job, onGoOn }: { job: Job; onGoOn: () => void }) {
  const round = useSignal<Round | null>(null);
  const open = useSignal(false);
  const address = `api/jobs/${encodeURIComponent(job.id)}/round`;
  useEffect(() => {
    round.value = null;
    if (!OVER.includes(job.state)) return;
    get<Round>(address).then(got => (round.value = got), () => undefined); // a search that asks nothing has no round
  }, [job.id, job.state]);
  const asked = round.value;
  if (!asked) return <JobLine job={job} />;
  const vote = async (winner: Winner): Promise<void> => {
    const { left, right } = asked.pair!;
    const next = await attempt(() => post<Round>(address, { left, right, winner }));
    if (next) round.value = next;
  };
  const count = t("choices.count", { answered: asked.answered, pairs: asked.pairs });
  return (
    <div class="choices">
      <p>{t("choices.asks", { number: asked.number })} {count}</p>
      <div class="tools">
        {asked.pair ? <Button id="choose" kind={asked.enough ? "plain" : "primary"} label={t("choices.open")} onClick={() => (open.value = true)} /> : null}
        {asked.enough ? <Button id="go-on" kind="primary" label={t("choices.go")} onClick={onGoOn} /> : null}
      </div>
      {open.value ? <PairDialog pair={asked.pair} count={count} onWinner={vote} onClose={() => (open.value = false)} /> : null}
    </div>
  );
}
