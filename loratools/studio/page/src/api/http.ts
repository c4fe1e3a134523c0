// One way to ask the server: relative URLs (a proxy may put the page at any prefix), JSON in and out, and every failure
// is one sentence with its remedy.
import { t, told } from "../state/i18n";
import type { Failure as Refused } from "./types";

export class Failure extends Error {
  constructor(
    readonly sentence: string,
    readonly remedy: string | null = null,
    readonly status = 0,
  ) {
    super(sentence);
  }
}

/** The folder that the page was served from, with a slash at its end. */
export const home = (): string => new URL(".", document.baseURI).href;

export const url = (path: string): string => new URL(path, home()).href;

export const pictureUrl = (id: string, size?: number): string =>
  url(`api/pictures/${encodeURIComponent(id)}${size ? `?size=${size}` : ""}`);

export async function get<T>(path: string): Promise<T> {
  return answer<T>(await reach(path, { method: "GET" }));
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  const headers = { "content-type": "application/json" };
  return answer<T>(await reach(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function reach(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url(path), { ...init, credentials: "same-origin", cache: "no-store" });
  } catch {
    throw new Failure(t("error.unreachable"), t("error.unreachable.remedy"));
  }
}

async function answer<T>(response: Response): Promise<T> {
  const text = await response.text().catch(() => {
    throw new Failure(t("error.unreachable"), t("error.unreachable.remedy")); // it was cut off on its way
  });
  let data: unknown = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    throw new Failure(t("error.notOurs", { status: response.status }), t("error.notOurs.remedy"), response.status);
  }
  if (response.ok) return data as T;
  const { error, remedy = null, ...rest } = (data ?? {}) as Partial<Refused>;
  const [sentence, advice] = error === undefined ? [undefined, null] : told({ error, remedy, ...rest });
  if (response.status === 401 || response.status === 403) {
    throw new Failure(sentence ?? t("error.denied"), advice ?? t("error.denied.remedy"), response.status);
  }
  throw new Failure(sentence ?? t("error.status", { status: response.status }), advice, response.status);
}

/** What to show for anything that was thrown. */
export function failureOf(thrown: unknown): Failure {
  return thrown instanceof Failure ? thrown : new Failure(thrown instanceof Error ? thrown.message : String(thrown));
}
