// Rules of a vector: a weight of their own for kinds of layers in a block, "OUT05/attn1", beside the blocks' numbers.
import type { Vector } from "../api/names";

export const isRule = (name: string): boolean => name.includes("/");

/** What stands before the slash: a block, or several blocks as they were written. */
export const blockOfRule = (rule: string): string => rule.slice(0, rule.indexOf("/"));

/** What stands after it: parts of the names of layers. */
export const elementOfRule = (rule: string): string => rule.slice(rule.indexOf("/") + 1);

/** The rules of one block together, in the order of the blocks; those of several blocks last. */
export function ruleGroups(vector: Vector, blocks: readonly string[]): { block: string; rules: string[] }[] {
  const found = new Map<string, string[]>();
  for (const rule of Object.keys(vector).filter(isRule)) {
    const block = blockOfRule(rule);
    found.set(block, [...(found.get(block) ?? []), rule]);
  }
  const place = (block: string): number => (blocks.includes(block) ? blocks.indexOf(block) : blocks.length);
  return [...found].map(([block, rules]) => ({ block, rules })).sort((a, b) => place(a.block) - place(b.block));
}
