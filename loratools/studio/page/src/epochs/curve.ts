// Numbers behind the chart: smoothing without a shift, a range that outliers do not rule, round ticks.

export type Points = readonly (readonly [number, number])[];

/** An exponential average forwards and backwards, so that bends stay where they are; each way starts without a bias. */
export function smooth(points: Points, keep: number): [number, number][] {
  const one = (values: readonly number[]): number[] => {
    let sum = 0;
    let weight = 0;
    return values.map(value => {
      sum = keep * sum + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
      return sum / weight;
    });
  };
  const values = points.map(([, value]) => value);
  const back = one([...values].reverse()).reverse();
  const forth = one(values);
  return points.map(([at], n) => [at, (forth[n]! + back[n]!) / 2]);
}

/** From the 1st to the 99th hundredth of the values, with a little air. */
export function range(values: readonly number[]): [number, number] {
  const finite = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (finite.length === 0) return [0, 1];
  const at = (part: number): number => finite[Math.round(part * (finite.length - 1))]!;
  const [low, high] = finite.length < 20 ? [finite[0]!, finite.at(-1)!] : [at(0.01), at(0.99)];
  const air = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - air, high + air];
}

/** Round numbers between low and high, about count of them. */
export function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(times => times * power).find(one => one >= rough * 0.999) ?? 10 * power;
  const found: number[] = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

/** At most count points: of each stretch its first, lowest and highest, so that spikes stay. */
export function thinned(points: Points, count: number): Points {
  if (points.length <= count) return points;
  const size = Math.ceil((3 * points.length) / count);
  const found: (readonly [number, number])[] = [];
  for (let from = 0; from < points.length; from += size) {
    const part = points.slice(from, from + size);
    const low = part.reduce((best, one) => (one[1] < best[1] ? one : best));
    const high = part.reduce((best, one) => (one[1] > best[1] ? one : best));
    found.push(...[...new Set([part[0]!, low, high])].sort((a, b) => a[0] - b[0]));
  }
  return found;
}
