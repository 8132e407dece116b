import { grown } from '../arrays.js';
import type { PairList } from './pair-list.js';

/** A binary heap of pairs: the highest count first, of equal ones the pair that precedes. */
export class PairHeap {
  /** Count of the pair that {@link pop} took out, as it was when it was put in. */
  count = 0;
  private size = 0;
  private counts = new Float64Array(2 ** 10);
  private pairs = new Int32Array(2 ** 10);

  constructor(private readonly list: PairList) {}

  push(pair: number, count: number): void {
    if (this.size === this.pairs.length) {
      this.counts = grown(this.counts, 2 * this.size);
      this.pairs = grown(this.pairs, 2 * this.size);
    }
    let index = this.size++;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.comesFirst(count, pair, parent)) break;
      this.move(parent, index);
      index = parent;
    }
    this.counts[index] = count;
    this.pairs[index] = pair;
  }

  /** Takes the first pair out; -1 if there is none. */
  pop(): number {
    if (this.size === 0) return -1;
    const first = this.pairs[0]!;
    this.count = this.counts[0]!;
    const last = --this.size;
    const count = this.counts[last]!;
    const pair = this.pairs[last]!;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= last) break;
      if (child + 1 < last && this.comesFirst(this.counts[child + 1]!, this.pairs[child + 1]!, child)) child++;
      if (this.comesFirst(count, pair, child)) break;
      this.move(child, index);
      index = child;
    }
    this.counts[index] = count;
    this.pairs[index] = pair;
    return first;
  }

  /** Whether `pair` belongs before the one at `index`. */
  private comesFirst(count: number, pair: number, index: number): boolean {
    const other = this.counts[index]!;
    return count > other || (count === other && this.list.precedes(pair, this.pairs[index]!));
  }

  private move(from: number, to: number): void {
    this.counts[to] = this.counts[from]!;
    this.pairs[to] = this.pairs[from]!;
  }
}
