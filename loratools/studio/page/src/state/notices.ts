// One line at a time at the foot of the page: what went wrong and what to do, or what was done.
import { signal } from "@preact/signals";
import { failureOf } from "../api/http";

export interface Notice {
  id: number;
  kind: "error" | "done" | "note";
  text: string;
  remedy: string | null;
}

export const notices = signal<Notice[]>([]);
const MOST = 4;
const STAYS = 6000;
let last = 0;

export function notify(kind: Notice["kind"], text: string, remedy: string | null = null): void {
  const kept = notices.peek().filter(one => one.text !== text); // the same thing again moves to the end
  const notice = { id: ++last, kind, text, remedy };
  notices.value = [...kept, notice].slice(-MOST);
  if (kind !== "error") setTimeout(() => dismiss(notice.id), STAYS);
}

export function dismiss(id: number): void {
  notices.value = notices.peek().filter(one => one.id !== id);
}

/** Run something that may fail; its failure becomes a notice. */
export async function attempt<T>(run: () => Promise<T>): Promise<T | undefined> {
  try {
    return await run();
  } catch (thrown) {
    complain(thrown);
    return undefined;
  }
}

/** A failure becomes a notice. */
export function complain(thrown: unknown): void {
  const { sentence, remedy } = failureOf(thrown);
  notify("error", sentence, remedy);
}
