import { grown } from './arrays.js';

/** Pairs of neighbouring tokens by number, with what is known of each. */
export class PairTable {
  /** Number of pairs. */
  size = 0;
  left = new Int32Array(2 ** 12);
  right = new Int32Array(2 ** 12);
  /** Occurrences, weighted by how often their words occur. */
  counts = new Float64Array(2 ** 12);
  /** Position of one occurrence, -1 if there is none; the others are linked to it. */
  heads = new Int32Array(2 ** 12);
  /** Pair by hash, open addressing: number + 1, or 0. At most half full. */
  private table = new Int32Array(2 ** 13);

  /** The number of a pair; a new pair has no occurrences. */
  numberOf(left: number, right: number): number {
    const mask = this.table.length - 1;
    let slot = hashOf(left, right) & mask;
    for (; this.table[slot] !== 0; slot = (slot + 1) & mask) {
      const pair = this.table[slot]! - 1;
      if (this.left[pair] === left && this.right[pair] === right) return pair;
    }
    if (this.size === this.left.length) this.grow();
    const pair = this.size++;
    this.left[pair] = left;
    this.right[pair] = right;
    this.heads[pair] = -1;
    this.table[slot] = pair + 1;
    if (2 * this.size > this.table.length) this.rehash();
    return pair;
  }

  /** Whether pair `a` is to be merged before pair `b` of the same count: the lower left id, then the lower right one. */
  precedes(a: number, b: number): boolean {
    const difference = this.left[a]! - this.left[b]!;
    return difference < 0 || (difference === 0 && this.right[a]! < this.right[b]!);
  }

  private grow(): void {
    const length = 2 * this.size;
    this.left = grown(this.left, length);
    this.right = grown(this.right, length);
    this.counts = grown(this.counts, length);
    this.heads = grown(this.heads, length);
  }

  private rehash(): void {
    this.table = new Int32Array(2 * this.table.length);
    const mask = this.table.length - 1;
    for (let pair = 0; pair < this.size; pair++) {
      let slot = hashOf(this.left[pair]!, this.right[pair]!) & mask;
      while (this.table[slot] !== 0) slot = (slot + 1) & mask;
      this.table[slot] = pair + 1;
    }
  }
}

function hashOf(left: number, right: number): number {
  const mixed = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
  return Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35) >>> 3;
}
