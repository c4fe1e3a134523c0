// What the search of a job found, wherever the job is shown: beside its button, and in the queue after a reload.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { asking } from "../api/asking";
import { get } from "../api/http";
import type { Evidence as Measured, Job } from "../api/types";
import { t } from "../state/i18n";
import { complain, notify } from "../state/notices";
import { change, desk, rounded, type Layer } from "../state/stack";
import { Evidence } from "./evidence";

/** The layer that a search was about: that of its LoRA, or of a recipe's search the first that is added; -1 for none. */
const searched = ({ lora }: Measured, layers: readonly Layer[]): number =>
  layers.findIndex(layer => layer.weight > 0 && (lora === null || layer.lora === lora));

/** What a search found, on the layer that it was about, and on the first that is taken away. */
function takeEvidence(evidence: Measured): void {
  const { vector, amount } = evidence;
  const now = desk.peek();
  const plus = searched(evidence, now.layers);
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
    // one that asks has measured something from its second round on
    return asking(() => get<Measured>(`api/jobs/${encodeURIComponent(job.id)}/evidence`), got => (measured.value = got), job.asks ? () => undefined : complain);
  }, [job.id, job.state, job.ended]);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), [evidence]);
  if (!evidence) return null;
  const usable = evidence.vector !== null && searched(evidence, desk.value.layers) >= 0;
  const use = (): void => {
    takeEvidence(evidence);
    notify("done", t("evidence.used"));
  };
  const absent = evidence.vector !== null && !usable && desk.value.layers.length > 0;
  return (
    <div ref={box}>
      <Evidence evidence={evidence} onUse={usable ? use : null} />
      {absent ? <p class="hint">{t("evidence.absent")}</p> : null}
    </div>
  );
}
