// #/blocks, #/epochs/RUN, #/queue/JOB. A fragment without a slash is the token of the first visit.
import { computed, signal } from "@preact/signals";

export const PAGES = ["blocks", "epochs", "queue"] as const;
export type PageName = (typeof PAGES)[number];

export function parseRoute(hash: string): { page: PageName; rest: string } | null {
  const match = /^#\/([a-z]+)(?:\/(.*))?$/.exec(hash);
  const page = match?.[1] as PageName | undefined;
  return page && PAGES.includes(page) ? { page, rest: decoded(match?.[2] ?? "") } : null;
}

/** As it is where somebody wrote a percent sign by hand: then it names nothing, which no page minds. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The token in a fragment, or null where it is a route or empty. */
export const tokenIn = (hash: string): string | null => (/^#[A-Za-z0-9_-]{16,}$/.test(hash) ? hash.slice(1) : null);

const hash = signal(typeof location === "undefined" ? "" : location.hash);
export const route = computed(() => parseRoute(hash.value) ?? { page: "blocks" as PageName, rest: "" });
export const routed = (): boolean => parseRoute(location.hash) !== null;

export function follow(): void {
  addEventListener("hashchange", () => {
    // the address of another start of the server, pasted over that of the old one: to the browser the same page
    if (tokenIn(location.hash)) location.reload();
    else hash.value = location.hash;
  });
}

export const href = (page: PageName, rest = ""): string =>
  `#/${page}${rest ? `/${encodeURIComponent(rest)}` : ""}`;

export function go(page: PageName, rest = "", replace = false): void {
  const to = href(page, rest);
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  hash.value = to;
}
