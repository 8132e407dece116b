import { grown } from '../arrays.js';

/** Pairs of neighbouring tokens by number, with what is known of each. */
export class PairList {
  /** Number of pairs. */
  size = 0;
  left = new Int32Array(2 ** 16);
  right = new Int32Array(2 ** 16);
  /** Occurrences, weighted by how often their words occur. */
  counts = new Float64Array(2 ** 16);
  /** Position of one occurrence, -1 if there is none; the others are linked to it. */
  heads = new Int32Array(2 ** 16);

  /** Adds a pair without occurrences. @returns its number */
  add(left: number, right: number): number {
    if (this.size === this.left.length) this.grow();
    const pair = this.size++;
    this.left[pair] = left;
    this.right[pair] = right;
    this.heads[pair] = -1;
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
}
