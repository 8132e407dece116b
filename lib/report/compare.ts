import type { Json } from '../data/types.js';
import { leaves } from '../json.js';
import type { EndEvent, TrainEvent } from '../train/events.js';

/** Rows of the tables of losses. */
const ROWS = 12;

/** What a comparison knows of a run. */
export interface RunSummary {
  /** `run.json` */
  record: { [key: string]: Json };
  /** Steps taken. */
  steps: number;
  /** Loss of every step. */
  losses: ReadonlyMap<number, number>;
  /** Validation loss by step. */
  evaluations: ReadonlyMap<number, number>;
  /** The evaluation with the smallest loss since they began anew, if ever. */
  best: { step: number; loss: number } | null;
  /** Of the last steps, for the speed. */
  tokensPerSecond: number | null;
  end: EndEvent | undefined;
}

/** A number of each of the two runs. */
export interface Pair<T> {
  a: T;
  b: T;
}

/** How two runs differ, as plain JSON. */
export interface Comparison {
  runs: Pair<RunFacts>;
  /** Settings that are not the same; null where a run has none. */
  different: ({ name: string } & Pair<Json>)[];
  /** Settings that are the same. */
  same: number;
  /** Steps that both have. */
  commonSteps: number;
  /** The first of them whose losses are not equal bit for bit. */
  firstDifference: ({ step: number } & Pair<number>) | null;
  /** Mean losses of stretches of the common steps, each up to its `step`. */
  losses: ({ step: number } & Pair<number>)[];
  /** Validation losses of steps at which both were evaluated. */
  evaluations: ({ step: number } & Pair<number>)[];
}

/** What a run came to. */
export interface RunFacts {
  steps: number;
  /** Of the last step. */
  loss: number | null;
  best: { step: number; loss: number } | null;
  tokensPerSecond: number | null;
  /** How it ended; null when it was killed or is in progress. */
  reason: EndEvent['reason'] | null;
}

/** What two runs never have in common, and says nothing about their numbers. */
const IGNORED = /^(starts|options\.out|training\.maxTime)(\.|$)/;

/** Gathers what a comparison needs from a run's events. */
export async function summarize(
  record: { [key: string]: Json },
  events: AsyncIterable<TrainEvent>,
): Promise<RunSummary> {
  const losses = new Map<number, number>();
  const evaluations = new Map<number, number>();
  const speeds: number[] = [];
  let best: RunSummary['best'] = null;
  let steps = 0;
  let end: EndEvent | undefined;
  for await (const event of events) {
    end = undefined;
    if (event.type === 'step') {
      steps = event.step;
      losses.set(steps, event.loss);
      speeds.push(event.tokensPerSecond);
      if (speeds.length > 100) speeds.shift();
    } else if (event.type === 'eval') {
      const { step, loss, anew } = event;
      if (anew) best = null;
      if (!Number.isFinite(loss)) continue;
      evaluations.set(step, loss);
      if (best === null || loss < best.loss) best = { step, loss };
    } else if (event.type === 'end') end = event;
  }
  return { record, steps, losses, evaluations, best, tokensPerSecond: median(speeds), end };
}

/** Compares two runs: their settings, and their losses where both have them. */
export function compareRuns(a: RunSummary, b: RunSummary): Comparison {
  const settings = { a: leaves(a.record), b: leaves(b.record) };
  const all = new Set([...settings.a.keys(), ...settings.b.keys()]);
  // Options as they were given are there again as they were resolved.
  const resolved = (name: string) =>
    ['', 'training.', 'model.'].some(
      (place) => all.has(name.replace(/^options\./, place)) && name.startsWith('options.'),
    );
  const names = [...all].filter((name) => !IGNORED.test(name) && !resolved(name));
  const value = (run: 'a' | 'b', name: string) => settings[run].get(name) ?? null;
  const different = names.filter((name) => value('a', name) !== value('b', name));
  const steps = common(a.losses, b.losses);
  const first = steps.find(({ a, b }) => a !== b);
  return {
    runs: { a: factsOf(a), b: factsOf(b) },
    different: different.map((name) => ({ name, a: value('a', name), b: value('b', name) })),
    same: names.length - different.length,
    commonSteps: steps.length,
    firstDifference: first ?? null,
    losses: stretches(steps),
    evaluations: spread(common(a.evaluations, b.evaluations)),
  };
}

function factsOf({ steps, losses, best, tokensPerSecond, end }: RunSummary): RunFacts {
  return { steps, loss: losses.get(steps) ?? null, best, tokensPerSecond, reason: end?.reason ?? null };
}

function common(a: ReadonlyMap<number, number>, b: ReadonlyMap<number, number>): ({ step: number } & Pair<number>)[] {
  return [...a].flatMap(([step, loss]) => {
    const other = b.get(step);
    return other === undefined ? [] : [{ step, a: loss, b: other }];
  });
}

/** Means over equally long stretches: single steps say little. */
function stretches(steps: readonly ({ step: number } & Pair<number>)[]): ({ step: number } & Pair<number>)[] {
  const rows: ({ step: number } & Pair<number>)[] = [];
  for (let row = 0; row < Math.min(ROWS, steps.length); row++) {
    const count = Math.min(ROWS, steps.length);
    const part = steps.slice(Math.floor((row * steps.length) / count), Math.floor(((row + 1) * steps.length) / count));
    const mean = (run: 'a' | 'b') => part.reduce((sum, step) => sum + step[run], 0) / part.length;
    rows.push({ step: (part.at(-1) as { step: number }).step, a: mean('a'), b: mean('b') });
  }
  return rows;
}

/** At most so many of them, evenly, the last one included. */
function spread<T>(items: readonly T[]): T[] {
  if (items.length <= ROWS) return [...items];
  return Array.from({ length: ROWS }, (_, row) => items[Math.floor(((row + 1) * items.length) / ROWS) - 1] as T);
}

function median(values: readonly number[]): number | null {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? null;
}
