import { CounterRandom } from '../data/random.js';
import { KotodamaError } from '../errors.js';
import type { OptionReader } from '../validate.js';

/**
 * How the next id is chosen; the same meaning and order as Transformers': repetition penalty, temperature, top-k, top-p,
 * min-p. Each step sees what the ones before it left.
 */
export interface SamplingOptions {
  /** Divides the logits: below 1 is more certain, above 1 more varied; 0 always takes the likeliest id [1]. */
  temperature?: number | undefined;
  /** Only the k likeliest ids, and those as likely as the last of them; 0: all [0]. */
  topK?: number | undefined;
  /** Only the likeliest ids that together reach this probability (Holtzman et al. 2020) [1]. */
  topP?: number | undefined;
  /** Only ids at least this many times as likely as the likeliest one; 0.05: a twentieth (Nguyen et al. 2024) [0]. */
  minP?: number | undefined;
  /**
   * Makes ids that the prompt or the new text has already less likely, when above 1: their logits are divided by it where
   * they are positive and multiplied where they are negative (Keskar et al. 2019) [1].
   */
  repetitionPenalty?: number | undefined;
  /** Equal seeds choose equally [0]. */
  seed?: number | undefined;
}

/** {@link SamplingOptions} with the defaults filled in. */
export interface SamplingRules {
  temperature: number;
  /** undefined: all ids. */
  topK: number | undefined;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  seed: number;
}

/** The names of {@link SamplingOptions}. */
export const SAMPLING_NAMES = ['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'seed'] as const;

/** Reads sampling options with their limits. */
export function readSampling(read: OptionReader): SamplingRules {
  return {
    temperature: read.number('temperature', { min: 0 }, 1),
    topK: read.integer('topK', { min: 0 }, 0) || undefined,
    topP: read.number('topP', { above: 0, max: 1 }, 1),
    minP: read.number('minP', { min: 0, max: 1 }, 0),
    repetitionPenalty: read.number('repetitionPenalty', { min: 0.01, max: 100 }, 1),
    seed: read.integer('seed', { min: 0 }, 0),
  };
}

/** Keeps sampling apart from other users of the same seed. */
const STREAM = 0x73616d70;

/** Chooses the ids of one text from logits; holds its random stream and the ids that it has. */
export class Sampler {
  private readonly random: CounterRandom;
  private readonly seen: Set<number>;
  /** Of the latest choice; kept, since a new one of a large vocabulary for every id takes longer than to choose. */
  private probabilities: Float64Array | undefined;

  /** @param prompt the ids that the text begins with */
  constructor(
    private readonly rules: SamplingRules,
    prompt: Iterable<number> = [],
  ) {
    this.random = new CounterRandom(rules.seed, STREAM);
    this.seen = new Set(prompt);
  }

  /**
   * Chooses the next id of the text.
   *
   * @param logits (V)
   * @throws KotodamaError `ERR_NON_FINITE` when a logit is NaN or infinite.
   */
  pick(logits: Float32Array): number {
    const id = this.rules.temperature === 0 ? this.likeliest(logits) : this.draw(this.distribution(logits));
    this.seen.add(id);
    return id;
  }

  private likeliest(logits: Float32Array): number {
    return largest(penalized(logits, this.rules.repetitionPenalty, this.seen));
  }

  private distribution(logits: Float32Array): Float64Array {
    this.probabilities ??= new Float64Array(logits.length);
    return distribution(logits, this.rules, this.seen, this.probabilities);
  }

  private draw(probabilities: Float64Array): number {
    let rest = this.uniform();
    let last = 0;
    for (let id = 0; id < probabilities.length; id++) {
      const probability = probabilities[id] as number;
      if (probability === 0) continue;
      if (rest < probability) return id;
      rest -= probability;
      last = id;
    }
    // Rounding may leave a crumb after the last candidate.
    return last;
  }

  /** A number from 0 to below 1 with 53 random bits. */
  private uniform(): number {
    return (this.random.below(2 ** 26) * 2 ** 27 + this.random.below(2 ** 27)) / 2 ** 53;
  }
}

/**
 * The probability of every id under the rules; those that are filtered out have 0.
 *
 * @param seen ids that the text has already
 * @param probabilities where they are written, (V) [new]
 */
export function distribution(
  given: Float32Array,
  { temperature, topK, topP, minP, repetitionPenalty }: SamplingRules,
  seen: Iterable<number> = [],
  probabilities: Float64Array = new Float64Array(given.length),
): Float64Array {
  const logits = penalized(given, repetitionPenalty, seen);
  const best = largest(logits);
  if (temperature === 0) {
    probabilities.fill(0)[best] = 1;
    return probabilities;
  }
  const floor = topK === undefined || topK >= logits.length ? -Infinity : kthLargest(logits, topK);
  const top = logits[best] as number;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    probabilities[id] = logit >= floor ? Math.exp((logit - top) / temperature) : 0;
  }
  normalize(probabilities);
  if (topP < 1) {
    keepNucleus(probabilities, topP);
    normalize(probabilities);
  }
  if (minP > 0) {
    const least = minP * (probabilities[best] as number);
    for (let id = 0; id < probabilities.length; id++) if ((probabilities[id] as number) < least) probabilities[id] = 0;
    normalize(probabilities);
  }
  return probabilities;
}

function penalized(logits: Float32Array, penalty: number, seen: Iterable<number>): Float32Array {
  if (penalty === 1) return logits;
  const result = logits.slice();
  for (const id of seen) {
    const logit = logits[id];
    // The prompt may hold ids beyond those that have a text.
    if (logit !== undefined) result[id] = logit < 0 ? logit * penalty : logit / penalty;
  }
  return result;
}

/** Index of the first largest logit. */
function largest(logits: Float32Array): number {
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (!Number.isFinite(logit)) {
      throw new KotodamaError('ERR_NON_FINITE', `the logit of id ${id} is ${logit}`, {
        hint: 'the weights hold NaN or infinite values: go back to an earlier checkpoint',
      });
    }
    if (logit > (logits[best] as number)) best = id;
  }
  return best;
}

/**
 * The k-th largest of some values, or the least where there are fewer.
 *
 * A heap holds the k largest so far, the least of them first: nearly all values of a large vocabulary only meet that one.
 */
export function kthLargest(values: Float32Array, k: number): number {
  const heap = values.slice(0, k).sort();
  for (let i = k; i < values.length; i++) {
    const value = values[i] as number;
    if (value <= (heap[0] as number)) continue;
    let hole = 0;
    for (let child = 1; child < k; child = 2 * hole + 1) {
      if (child + 1 < k && (heap[child + 1] as number) < (heap[child] as number)) child++;
      if ((heap[child] as number) >= value) break;
      heap[hole] = heap[child] as number;
      hole = child;
    }
    heap[hole] = value;
  }
  return heap[0] as number;
}

/** Clears all but the likeliest ids whose sum first reaches `mass`; among equals the lower ids stay. */
function keepNucleus(probabilities: Float64Array, mass: number): void {
  // All ids below this together have at most half of what the nucleus may leave out, so that none of them is in it.
  const negligible = (1 - mass) / (2 * probabilities.length);
  const sorted = probabilities.filter((probability) => probability >= negligible).sort();
  let sum = 0;
  let count = 0;
  while (count < sorted.length && sum < mass) {
    count++;
    sum += sorted[sorted.length - count] as number;
  }
  const threshold = sorted[sorted.length - count] as number;
  const above = sorted.length - 1 - sorted.lastIndexOf(threshold);
  let equals = count - above;
  for (let id = 0; id < probabilities.length; id++) {
    const probability = probabilities[id] as number;
    if (probability > threshold || (probability === threshold && equals-- > 0)) continue;
    probabilities[id] = 0;
  }
}

function normalize(probabilities: Float64Array): void {
  let sum = 0;
  for (const probability of probabilities) sum += probability;
  for (let id = 0; id < probabilities.length; id++) probabilities[id] = (probabilities[id] as number) / sum;
}
