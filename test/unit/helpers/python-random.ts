import type { RandomIntegers } from '../../../dist/data/index.js';

/** CPython's `random`: MT19937 seeded by init_by_array, and `randint` by rejection on getrandbits. */
export class PythonRandom implements RandomIntegers {
  private readonly words = new Uint32Array(624);
  private index = 624;

  constructor(seed: number) {
    const mt = this.words;
    mt[0] = 19650218;
    for (let i = 1; i < 624; i++) mt[i] = Math.imul(1812433253, mt[i - 1] ^ (mt[i - 1] >>> 30)) + i;
    let i = 1;
    const wrap = () => {
      if (++i < 624) return;
      mt[0] = mt[623];
      i = 1;
    };
    for (let k = 0; k < 624; k++) {
      mt[i] = (mt[i] ^ Math.imul(mt[i - 1] ^ (mt[i - 1] >>> 30), 1664525)) + seed;
      wrap();
    }
    for (let k = 0; k < 623; k++) {
      mt[i] = (mt[i] ^ Math.imul(mt[i - 1] ^ (mt[i - 1] >>> 30), 1566083941)) - i;
      wrap();
    }
    mt[0] = 0x80000000;
  }

  below(limit: number): number {
    for (;;) {
      const value = this.word() >>> Math.clz32(limit);
      if (value < limit) return value;
    }
  }

  state(): number[] {
    return [this.index, ...this.words];
  }

  restore(state: unknown): void {
    const [index, ...words] = state as number[];
    this.index = index;
    this.words.set(words);
  }

  private word(): number {
    if (this.index === 624) {
      const mt = this.words;
      for (let i = 0; i < 624; i++) {
        const y = (mt[i] & 0x80000000) | (mt[(i + 1) % 624] & 0x7fffffff);
        mt[i] = mt[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.index = 0;
    }
    let y = this.words[this.index++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
}
