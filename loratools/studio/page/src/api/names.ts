// Short names for parts of the generated types.
import type { Draw, Job, Stack, Started } from "./types";

export type Vector = Record<string, number>;
export type Quality = Draw["quality"];
export type JobAction = Job["can"][number];
export type JobState = Job["state"];

/** What a search measured, of its job when it is done. */
export interface Evidence {
  sentence: string;
  rows: [string, string, string][];
  vector: Vector | null;
  picture: string | null;
}
export const evidenceOf = (job: Job): Evidence | null => (job as Job & { evidence?: Evidence | null }).evidence ?? null;
export const stackFrom = (started: Started): Stack | null => (started as Started & { stack?: Stack | null }).stack ?? null;
