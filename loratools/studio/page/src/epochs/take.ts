// "Use this epoch": from a run, its samples or a grid onto the desk.
import type { Run } from "../api/types";
import { signal } from "@preact/signals";
import { useEpoch } from "../state/choose";
import { t } from "../state/i18n";
import { notify } from "../state/notices";
import { go } from "../state/route";
import { lorasById } from "../state/studio";

export const chosenGrid = signal("");
export const tab = signal<"run" | "grid">("run");

export function showGrid(id: string): void {
  chosenGrid.value = id;
  tab.value = "grid";
}

export function takeEpoch(run: Run, number: number): void {
  const file = run.epochs.find(epoch => epoch.number === number)?.lora;
  const lora = file ? lorasById.peek().get(file) : undefined;
  if (!lora) {
    notify("error", t("epoch.gone", { epoch: number }), t("epoch.gone.remedy"));
    return;
  }
  useEpoch(run, lora);
  notify("done", t("epoch.taken", { name: `${run.name}@${number}` }));
  go("blocks");
}
