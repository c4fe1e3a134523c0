// #/blocks, #/epochs/RUN, #/queue/JOB. A fragment without a slash is the token of the first visit.
import { computed, signal } from "@preact/signals";

export const PAGES = ["blocks", "epochs", "queue"] as const;
export type PageName = (typeof PAGES)[number];

export function parseRoute(hash: string): { page: PageName; rest: string } | null {
  const match = /^#\/([a-z]+)(?:\/(.*))?$/.exec(hash);
  const page = match?.[1] as PageName | undefined;
  return page && PAGES.includes(page) ? { page, rest: decodeURIComponent(match?.[2] ?? "") } : null;
}

/** The token in a fragment, or null where it is a route or empty. */
export const tokenIn = (hash: string): string | null => (/^#[A-Za-z0-9_-]{16,}$/.test(hash) ? hash.slice(1) : null);

const hash = signal(typeof location === "undefined" ? "" : location.hash);
export const route = computed(() => parseRoute(hash.value) ?? { page: "blocks" as PageName, rest: "" });
export const routed = (): boolean => parseRoute(location.hash) !== null;

export function follow(): void {
  addEventListener("hashchange", () => (hash.value = location.hash));
}

export const href = (page: PageName, rest = ""): string =>
  `#/${page}${rest ? `/${encodeURIComponent(rest)}` : ""}`;

export function go(page: PageName, rest = "", replace = false): void {
  const to = href(page, rest);
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  hash.value = to;
}
