// What the server says of the stack as a whole: each block's share, and what changed from before to now.
import { effect, signal, untracked } from "@preact/signals";
import { oneAtATime } from "../api/asking";
import { post } from "../api/http";
import type { ExplainAnswer, ExplainRequest } from "../api/types";
import { kept, stackOf } from "./live";
import { desk } from "./stack";
import { blocksOf, details } from "./studio";

export const explained = signal<ExplainAnswer | null>(null);
const REST = 300;
let timer: ReturnType<typeof setTimeout> | undefined;

async function ask(): Promise<void> {
  const [now, before] = [desk.peek(), { ...kept.peek(), base: desk.peek().base }];
  const known = [...now.layers, ...before.layers].every(layer => blocksOf(layer.lora) !== null);
  if (now.layers.length === 0 || !now.base || !known) {
    explained.value = null;
    return;
  }
  const request: ExplainRequest = { stack: stackOf(before), other: before.layers.length > 0 ? stackOf(now) : null };
  if (request.other === null) request.stack = stackOf(now);
  try {
    explained.value = await post<ExplainAnswer>("api/stack/explain", request);
  } catch {
    explained.value = null; // the pictures say the same thing in their own place, with its remedy
  }
}

/** Of a large file an answer takes seconds: one question is under way, and the next is about the newest stack. */
const explain = oneAtATime(ask);

export function followExplanation(): () => void {
  return effect(() => {
    void [desk.value, kept.value, details.value];
    untracked(() => {
      clearTimeout(timer);
      timer = setTimeout(() => void explain(), REST);
    });
  });
}
