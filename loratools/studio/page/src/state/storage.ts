// What the browser keeps for this page; a browser that keeps nothing is no error.
export function recall<T>(name: string, fallback: T): T {
  try {
    const text = localStorage.getItem(`loratools.${name}`);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

export function remember(name: string, value: unknown): void {
  try {
    localStorage.setItem(`loratools.${name}`, JSON.stringify(value));
  } catch {
    // a private window, or its place is full: the page works all the same, it forgets at the next visit
  }
}
