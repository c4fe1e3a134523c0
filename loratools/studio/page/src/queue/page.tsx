// All jobs in their order, whoever started them; what they say, and what can be done with them.
import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { oneAtATime } from "../api/asking";
import { get, post } from "../api/http";
import { Choices } from "../blocks/choices";
import type { JobAction } from "../api/names";
import type { Job, JobLog, LogLine } from "../api/types";
import { language, said, t, tOr } from "../state/i18n";
import { attempt } from "../state/notices";
import { go, route } from "../state/route";
import { jobs, loadJobs, logged } from "../state/studio";
import { narrow } from "../state/theme";
import { Button, Command, type IconName } from "../ui/controls";
import { JobEvidence } from "../blocks/job_evidence";
import { isOpen, JobLine } from "./job_line";
import { TrainButton } from "./train_button";

const ACTIONS: Record<JobAction, { icon: IconName; order: number }> = {
  stop: { icon: "stop", order: 0 }, "stop-after-epoch": { icon: "flag", order: 1 }, pause: { icon: "pause", order: 2 },
  resume: { icon: "play", order: 3 }, up: { icon: "up", order: 4 }, down: { icon: "down", order: 5 }, remove: { icon: "close", order: 6 },
};

/** Those that run first, then those that wait in their order, then what is over, the newest first. */
export function ordered(all: readonly Job[]): Job[] {
  const rank = (job: Job): number => (job.state === "running" || job.state === "stopping" ? 0 : isOpen(job) ? 1 : 2);
  return [...all].sort((a, b) =>
    rank(a) - rank(b) || (rank(a) === 2 ? (b.ended ?? b.created) - (a.ended ?? a.created) : a.position - b.position));
}

async function act(job: Job, action: JobAction): Promise<void> {
  await attempt(() => post(`api/jobs/${encodeURIComponent(job.id)}`, { do: action }));
  await loadJobs();
}

export function QueuePage() {
  const all = useComputed(() => ordered(jobs.value));
  const chosen = jobs.value.find(job => job.id === route.value.rest) ?? null;
  if (all.value.length === 0) {
    return <div class="bench start"><h2>{t("queue.empty")}</h2><p>{t("queue.empty.help")}</p><TrainButton /></div>;
  }
  return (
    <div class={chosen ? "queue open" : "queue"}>
      <section class="panel" aria-labelledby="queue-title">
        <header><h2 id="queue-title">{t("queue")}</h2><span class="hint">{t("queue.help")}</span><TrainButton /></header>
        <ul class="jobs">{all.value.map(job => <Row key={job.id} job={job} current={job === chosen} />)}</ul>
      </section>
      {chosen && !narrow.value ? <Opened key={chosen.id} job={chosen} /> : null}
    </div>
  );
}

function Row({ job, current }: { job: Job; current: boolean }) {
  const actions = [...job.can].sort((a, b) => ACTIONS[a].order - ACTIONS[b].order);
  return (
    <li class={current ? "job current" : "job"} data-job={job.id} data-state={job.state}>
      <button type="button" class="job-name" aria-expanded={current} onClick={() => go("queue", current ? "" : job.id)}>
        <b>{said(job.says)}</b>
        <small>{tOr(`kind.${job.kind}`, job.kind)} · {when(job.started ?? job.created)}</small>
      </button>
      <JobLine job={job} />
      <Choices job={job} />
      <div class="tools">
        {actions.map(action => {
          const { icon } = ACTIONS[action];
          const main = !["up", "down"].includes(action) && (action !== "remove" || !isOpen(job));
          return <Button key={action} icon={icon} bare={!main} kind={action === "stop" ? "danger" : "plain"} label={t(`do.${action}`)}
            title={t(`do.${action}.help`)} onClick={() => void act(job, action)} />;
        })}
      </div>
      {current && narrow.value ? <Opened job={job} /> : null}
    </li>
  );
}

export const when = (seconds: number): string =>
  new Date(seconds * 1000).toLocaleString(language.value, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

const MOST_LINES = 5000;

function Opened({ job }: { job: Job }) {
  const lines = useSignal<readonly LogLine[]>([]);
  const box = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  const read = useMemo(() => oneAtATime(async () => {
    let more = true;
    while (more) {
      const after = lines.peek().at(-1)?.number ?? 0;
      const got = await attempt(() => get<JobLog>(`api/jobs/${encodeURIComponent(job.id)}/log?after=${after}`));
      const fresh = (got?.lines ?? []).filter(line => line.number > after);
      if (fresh.length > 0) lines.value = [...lines.peek(), ...fresh].slice(-MOST_LINES);
      more = (got?.more ?? false) && fresh.length > 0;
    }
  }), [job.id]);
  const news = logged.value?.job === job.id ? logged.value.last : 0;
  useEffect(() => void read(), [news, job.state]);
  useEffect(() => { // the end stays in sight while the person is at the end
    const shown = box.current;
    if (shown && atEnd.current) shown.scrollTop = shown.scrollHeight;
  }, [lines.value.length]);
  return (
    <section class="panel log" aria-label={t("log.of", { title: said(job.says) })}>
      <header>
        <h2>{said(job.says)}</h2>
        <Button label={t("close")} icon="close" bare onClick={() => go("queue")} />
      </header>
      <p class="label">{t("command.same")}</p>
      <Command text={job.command} label={t("command")} />
      {job.step ? <><p class="label">{t("save.step")}</p><Command text={job.step} label={t("save.step")} /></> : null}
      <JobEvidence job={job} />
      <p class="label">{t("log")}</p>
      <pre ref={box} class="lines" tabIndex={0} role="log" aria-live="off" aria-label={t("log")} onScroll={event => {
        const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
        atEnd.current = scrollHeight - scrollTop - clientHeight < 40;
      }}>{lines.value.length > 0 ? lines.value.map(line => line.text).join("\n") : t("log.empty")}</pre>
    </section>
  );
}
