import type { Json } from './types.js';

/** Random whole numbers whose stream can be saved and continued. */
export interface RandomIntegers {
  /** An integer from 0 to `limit` - 1, all equally likely; `limit` is from 1 to 2^32 - 1. */
  below(limit: number): number;
  /** Where the stream stands. */
  state(): Json;
  /** Continues from there. @throws when `state` is not from this kind of generator */
  restore(state: Json): void;
}

/**
 * Random numbers from a counter: number k is a mix of k and the seed, so the whole state is k. The mix is Philox 2x32 with
 * 10 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), the second counter word being the stream.
 */
export class CounterRandom implements RandomIntegers {
  private counter = 0;
  private readonly key: number;
  private readonly stream: number;

  /**
   * @param seed an integer from 0 to 2^53 - 1
   * @param stream an integer from 0 to 2^32 - 1; each stream of a seed is independent
   */
  constructor(seed: number, stream: number) {
    // Small seeds, the usual ones, are the key themselves; the rest of a large one is mixed in.
    this.key = (seed ^ Math.imul(Math.floor(seed / 2 ** 32), 0x9e3779b1)) >>> 0;
    this.stream = stream >>> 0;
  }

  /** By rejection: as many random bits as `limit` has, until they make a number below it. */
  below(limit: number): number {
    const shift = Math.clz32(limit);
    for (;;) {
      const value = this.word() >>> shift;
      if (value < limit) return value;
    }
  }

  state(): Json {
    return this.counter;
  }

  restore(state: Json): void {
    if (typeof state !== 'number' || !Number.isSafeInteger(state) || state < 0) throw new TypeError('not a counter');
    this.counter = state;
  }

  /** 32 random bits. */
  private word(): number {
    let left = this.counter >>> 0;
    // Past 2^32 numbers the counter's upper part goes where the stream is.
    let right = (this.stream ^ Math.imul(Math.floor(this.counter / 2 ** 32), 0x85ebca6b)) >>> 0;
    this.counter++;
    let key = this.key;
    for (let round = 0; round < 10; round++) {
      const low = Math.imul(left, 0xd256d193) >>> 0;
      const high = upperHalf(left, 0xd256d193);
      left = (high ^ key ^ right) >>> 0;
      right = low;
      key = (key + 0x9e3779b9) >>> 0;
    }
    return left;
  }
}

/** Bits 32 to 63 of the product of two 32-bit numbers. */
function upperHalf(a: number, b: number): number {
  const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = a1 * b0 + Math.floor((a0 * b0) / 65536);
  const cross = a0 * b1 + (middle % 65536);
  return (a1 * b1 + Math.floor(middle / 65536) + Math.floor(cross / 65536)) >>> 0;
}
