// What the search of a job found, wherever the job is shown: beside its button, and in the queue after a reload.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { get } from "../api/http";
import type { Evidence as Measured, Job } from "../api/types";
import { t } from "../state/i18n";
import { attempt, notify } from "../state/notices";
import { change, desk, rounded } from "../state/stack";
import { Evidence } from "./evidence";

/** What a search found, on the layers that it was about: the first that is added, and the first that is taken away. */
function takeEvidence({ vector, amount }: Measured): void {
  const now = desk.peek();
  const plus = now.layers.findIndex(layer => layer.weight > 0);
  const minus = now.layers.findIndex(layer => layer.weight < 0);
  const layers = now.layers.map((layer, n) => {
    if (n === plus && vector) return { ...layer, vector, muted: [], solo: [] };
    return n === minus && amount !== null ? { ...layer, weight: rounded(layer.weight * amount, 0.0001) } : layer;
  });
  change({ ...now, layers });
}

export function JobEvidence({ job }: { job: Job }) {
  const measured = useSignal<Measured | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const evidence = measured.value;
  useEffect(() => {
    measured.value = null;
    if (job.kind !== "tune" || !(job.state === "done" || job.asks)) return;
    const asked = get<Measured>(`api/jobs/${encodeURIComponent(job.id)}/evidence`);
    // one that asks has measured something from its second round on
    void (job.asks ? asked.catch(() => null) : attempt(() => asked)).then(got => (measured.value = got ?? null));
  }, [job.id, job.state, job.ended]);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), [evidence]);
  if (!evidence) return null;
  const usable = evidence.vector !== null && desk.value.layers.length > 0;
  const use = (): void => {
    takeEvidence(evidence);
    notify("done", t("evidence.used"));
  };
  return <div ref={box}><Evidence evidence={evidence} onUse={usable ? use : null} /></div>;
}
