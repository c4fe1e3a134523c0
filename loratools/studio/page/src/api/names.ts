// Short names for parts of the generated types.
import type { Draw, Job } from "./types";

export type Vector = Record<string, number>;
export type Quality = Draw["quality"];
export type JobAction = Job["can"][number];
export type JobState = Job["state"];
