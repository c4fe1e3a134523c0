// A job in one line: what it is, how it stands, in words and a mark, and how far it is.
import type { Job } from "../api/types";
import { said, t, tOr } from "../state/i18n";
import { Icon, Meter, type IconName } from "../ui/controls";

const MARKS: Record<Job["state"], IconName> = {
  waiting: "clock", running: "play", paused: "pause", stopping: "stop", done: "check", failed: "warn", stopped: "stop",
};

/** 75 -> "1:15", 3700 -> "1:01:40". */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value: number): string => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export const partDone = ({ progress }: Job): number | null =>
  progress.total ? Math.min(1, progress.done / progress.total) : null;

const OPEN = new Set<Job["state"]>(["running", "stopping", "paused", "waiting"]);
/** Whether a job is still to do something. */
export const isOpen = (job: Job): boolean => OPEN.has(job.state);

export function JobState({ job }: { job: Job }) {
  return <span class={`state ${job.state}`} role="status"><Icon name={MARKS[job.state]} /> {t(`job.${job.state}`)}</span>;
}

/** What a bar says that it is at: "epoch 1/4", a stage of a search. */
export const noted = (note: string): string => {
  const epoch = /^epoch (\d+)\/(\d+)$/.exec(note);
  if (epoch) return t("note.epoch", { epoch: epoch[1]!, epochs: epoch[2]! });
  const own = tOr(`note.${note.split(" ")[0]!}`, note);
  return own.includes("{") ? note : own; // words with holes say nothing without their values
};

export function JobLine({ job }: { job: Job }) {
  const { done, total, unit, left_seconds: left, note } = job.progress;
  const live = job.state === "running" || job.state === "stopping" || job.state === "paused";
  const count = total ? `${done} / ${total}` : done > 0 ? String(done) : "";
  return (
    <div class="job-line">
      <div class="job-words">
        <JobState job={job} />
        {live && count ? <span aria-live="off">{count} {tOr(`unit.${unit.replace(/s$/, "")}`, unit)}</span> : null}
        {live && left !== null && job.state !== "paused" ? <span aria-live="off">{t("job.left", { time: clock(left) })}</span> : null}
        {live && note ? <span class="note">{noted(note)}</span> : null}
      </div>
      {live ? <Meter part={partDone(job)} label={t("job.progress", { title: said(job.says) })} /> : null}
      {job.error ? <p class="failure"><Icon name="warn" /> {said(job.error)}</p> : null}
    </div>
  );
}
