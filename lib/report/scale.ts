/** What turns numbers into places on an axis, and back. */
export interface Scale {
  /** A number as a share of the axis, 0 to 1. */
  place(value: number): number;
  /** The number at a share of the axis. */
  value(place: number): number;
  /** Round numbers inside the range, ascending. */
  ticks: number[];
}

/** The distance of ticks that is no smaller than a rough one, and round. */
export type TickStep = (rough: number) => number;

/** An axis from `low` to `high`, with about `count` ticks. */
export function linearScale(low: number, high: number, count: number, stepFor: TickStep = decimalStep): Scale {
  const [from, to] = low < high ? [low, high] : widened(low);
  return {
    place: (value) => (value - from) / (to - from),
    value: (place) => from + place * (to - from),
    ticks: linearTicks(from, to, count, stepFor),
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

/** Multiples of a round step inside the range, about `count` of them. */
export function linearTicks(low: number, high: number, count: number, stepFor: TickStep = decimalStep): number[] {
  const step = stepFor((high - low) / Math.max(1, count));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  // Divided, not multiplied, where the step is below one: 3 / 10 is 0.3, and 3 * 0.1 is not.
  const tick = (index: number) => (step < 1 ? index / Math.round(1 / step) : index * step);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => tick(first + index));
}

/** 1, 2 or 5 times a power of ten. */
export function decimalStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5].find((factor) => factor * power >= rough * (1 - 1e-9)) ?? 10) * power;
}

/** For what is counted: at least one. */
export function wholeStep(rough: number): number {
  return Math.max(1, decimalStep(rough));
}

/** Round parts of minutes, hours and days, in seconds. */
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((minutes) => 60 * minutes),
  ...[1, 2, 3, 6, 12].map((hours) => 3600 * hours),
];

/** For seconds: what clocks have. */
export function timeStep(rough: number): number {
  return TIME_STEPS.find((step) => step >= rough * (1 - 1e-9)) ?? 86_400 * wholeStep(rough / 86_400);
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

const PREFIXES = [
  [1e12, 1e12, 'T'],
  [1e9, 1e9, 'G'],
  [1e6, 1e6, 'M'],
  [1e4, 1e3, 'k'],
] as const;

/**
 * A number at a tick or under a pointer: `0.3`, `2e-5`, `1.5k`, `12M`, `3e+15`.
 *
 * @param digits significant ones at most [4, below a thousandth 3].
 */
export function shortNumber(value: number, digits?: number): string {
  // Rounded before a prefix is chosen: 999,999 is 1M, not 1000k.
  const rounded = Number(value.toPrecision(digits ?? (Math.abs(value) < 1e-3 ? 3 : 4)));
  const size = Math.abs(rounded);
  if ((size > 0 && size < 1e-3) || size >= 1e15) return rounded.toExponential();
  const [, unit, prefix] = PREFIXES.find(([least]) => size >= least) ?? [0, 1, ''];
  return `${Number((rounded / unit).toPrecision(15))}${prefix}`;
}

/** Digits of `shortNumber` that tell each tick from the next. */
export function tickDigits(ticks: readonly number[]): number | undefined {
  if (ticks.length < 2) return undefined;
  const order = (value: number) => Math.floor(Math.log10(value) + 1e-9);
  const least = Math.min(...ticks.slice(1).map((tick, index) => tick - (ticks[index] as number)));
  const largest = Math.max(...ticks.map(Math.abs));
  return Math.max(4, order(largest) - order(least) + 1);
}

const TIME_UNITS = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'm'],
  [1, 's'],
] as const;

/** A time at a tick, as fine as ticks every `step` seconds need: `45s`, `5m`, `2h 30m`, `3d`. */
export function tickTime(seconds: number, step: number): string {
  const total = Math.round(seconds);
  if (total === 0) return '0s';
  // Up to two days are hours, as in `duration`.
  const first = TIME_UNITS.findIndex(([unit]) => total >= (unit === 86_400 ? 2 * unit : unit));
  const last = TIME_UNITS.findIndex(([unit]) => step % unit === 0);
  let rest = total;
  const parts = TIME_UNITS.slice(first, Math.max(first, last) + 1).map(([unit, name], index) => {
    const count = Math.floor(rest / unit);
    rest -= count * unit;
    return `${index === 0 ? count : String(count).padStart(2, '0')}${name}`;
  });
  return parts.join(' ');
}
