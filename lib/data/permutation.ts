import { CounterRandom } from './random.js';

/** Enough that the counts of every test of {@link Permutation} are those of true shuffles; a place costs about 1 us. */
const ROUNDS = 64;

/**
 * A random order of the numbers from 0 to `size` - 1 that is never written down: any place of it can be asked for. It
 * depends on size, seed and epoch alone.
 *
 * The swap-or-not shuffle (Hoang, Morris and Rogaway 2012, "An enciphering scheme based on a card shuffle"): each round
 * pairs every number x with K - x modulo `size`, K being the round's key, and a random bit for each pair says whether its
 * two numbers are swapped.
 */
export class Permutation {
  readonly size: number;
  /** K of each round. */
  private readonly sums = new Float64Array(ROUNDS);
  /** Key of each round's bits. */
  private readonly keys = new Uint32Array(ROUNDS);

  /**
   * @param size from 1 to 2^32 - 1
   * @param seed from 0 to 2^53 - 1
   * @param epoch from 0 to 2^32 - 1; each epoch of a seed has an order of its own
   */
  constructor(size: number, seed: number, epoch: number) {
    this.size = size;
    const random = new CounterRandom(seed, epoch);
    for (let round = 0; round < ROUNDS; round++) {
      this.sums[round] = random.below(size);
      this.keys[round] = random.below(0xffffffff);
    }
  }

  /** The number at `index`, both from 0 to `size` - 1. */
  at(index: number): number {
    let number = index;
    for (let round = 0; round < ROUNDS; round++) {
      const difference = (this.sums[round] as number) - number;
      const partner = difference < 0 ? difference + this.size : difference;
      // Both numbers of a pair ask for the same bit.
      const bit = mix(Math.max(number, partner) ^ (this.keys[round] as number)) & 1;
      if (bit === 1) number = partner;
    }
    return number;
  }
}

/** The finalizer of MurmurHash3: every bit of the input changes every bit of the output with probability one half. */
function mix(word: number): number {
  let hash = word;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
