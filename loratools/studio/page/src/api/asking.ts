// Answers that come too late, or in another order than their questions.
import { complain } from "../state/notices";

/**
 * Ask, after a rest of so many milliseconds. What is returned takes the question back: an answer that comes all the
 * same is dropped, so that an older one never takes the place of a newer one. Made to be an effect's own end.
 */
export function asking<T>(ask: () => Promise<T>, take: (got: T) => void, refuse: (thrown: unknown) => void = complain, rest = 0): () => void {
  let wanted = true;
  const begin = (): void => void ask().then(got => {
    if (wanted) take(got);
  }, thrown => {
    if (wanted) refuse(thrown);
  });
  const timer = rest > 0 ? setTimeout(begin, rest) : undefined;
  if (rest <= 0) begin();
  return () => {
    wanted = false;
    clearTimeout(timer);
  };
}

/** Runs one at a time: what is asked for while it runs makes it run once more after that. */
export function oneAtATime(run: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  let again = false;
  const all = async (): Promise<void> => {
    do {
      again = false;
      await run();
    } while (again);
  };
  return () => {
    if (running) again = true;
    else running = all().finally(() => (running = null));
    return running;
  };
}

let turn: Promise<unknown> = Promise.resolve();

/** Runs after all that was given here before has ended: changes reach the server in the order of the person's keys. */
export function inTurn<T>(run: () => Promise<T>): Promise<T> {
  const own = turn.then(run);
  turn = own.catch(() => undefined);
  return own;
}
