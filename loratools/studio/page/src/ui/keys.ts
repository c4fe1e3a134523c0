// Which key it is, whatever language the keyboard writes.

/**
 * The letter of a key in small, by its place where it writes another alphabet: whoever writes Russian presses Ctrl+Я for
 * Ctrl+Z. Keys with names, and signs, are as the browser calls them.
 */
export function keyOf({ key, code }: { key: string; code: string }): string {
  if (/^[A-Za-z]$/.test(key)) return key.toLowerCase();
  const place = /^Key([A-Z])$/.exec(code)?.[1];
  return place && key.length === 1 && key > "\u007f" ? place.toLowerCase() : key;
}
