/** What turns numbers into places on an axis, and back. */
export interface Scale {
  /** A number as a share of the axis, 0 to 1. */
  place(value: number): number;
  /** The number at a share of the axis. */
  value(place: number): number;
  /** Round numbers inside the range, ascending. */
  ticks: number[];
}

/** An axis from `low` to `high`, with about `count` ticks. */
export function linearScale(low: number, high: number, count: number): Scale {
  const [from, to] = low < high ? [low, high] : widened(low);
  return {
    place: (value) => (value - from) / (to - from),
    value: (place) => from + place * (to - from),
    ticks: linearTicks(from, to, count),
  };
}

/** A logarithmic axis; both ends must be above 0. */
export function logScale(low: number, high: number, count: number): Scale {
  const [from, to] = low < high ? [low, high] : [low / 2, high * 2];
  const range = Math.log(to / from);
  return {
    place: (value) => Math.log(value / from) / range,
    value: (place) => from * Math.exp(place * range),
    ticks: logTicks(from, to, count),
  };
}

function widened(value: number): [number, number] {
  const margin = Math.abs(value) / 2 || 1;
  return [value - margin, value + margin];
}

/** Multiples of 1, 2 or 5 times a power of ten inside the range, about `count` of them. */
export function linearTicks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((factor) => factor * power >= rough * (1 - 1e-9)) ?? 10) * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  // Divided, not multiplied, where the step is below one: 3 / 10 is 0.3, and 3 * 0.1 is not.
  const tick = (index: number) => (step < 1 ? index / Math.round(1 / step) : index * step);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => tick(first + index));
}

/** Powers of ten, with 2 and 5 of each while that is not too many; linear ticks inside one decade. */
function logTicks(low: number, high: number, count: number): number[] {
  const decades = Math.log10(high / low);
  if (decades < 1) return linearTicks(low, high, count);
  const factors = decades * 3 <= count * 1.5 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / count));
  const ticks: number[] = [];
  const last = Math.floor(Math.log10(high));
  for (let exponent = Math.floor(Math.log10(low)); exponent <= last; exponent++) {
    if (exponent % every !== 0) continue;
    for (const factor of factors) {
      const tick = exponent < 0 ? factor / 10 ** -exponent : factor * 10 ** exponent;
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

/** A number at a tick or under a pointer: `0.3`, `2e-5`, `1.5k`, `12M`. */
export function shortNumber(value: number, digits = 4): string {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 1e-3) return Number(value.toPrecision(Math.min(digits, 3))).toExponential();
  const prefixes = [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e4, 'k'],
  ] as const;
  const found = prefixes.find(([least]) => size >= least * 0.9999999);
  if (found === undefined) return String(Number(value.toPrecision(Math.max(digits, 4))));
  const [least, prefix] = found;
  return `${Number((value / (least === 1e4 ? 1e3 : least)).toPrecision(digits))}${prefix}`;
}
