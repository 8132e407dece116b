import type { IdBuffer } from '../id-buffer.js';
import { HeapMerger } from './heap-merger.js';
import { LongMerger } from './long-merger.js';
import type { MergeTable } from './merge-table.js';

/** Up to so many bytes it is quickest to look through all pairs for every merge. */
const SHORT = 96;

const NONE = 0x7fffffff;

/**
 * Byte-pair encoding (Sennrich et al. 2016) of single pre-tokens: again and again the first pair in the order of merges is
 * joined, of equal ones the leftmost.
 */
export class Merger {
  private readonly table: MergeTable;
  private readonly byteIds: Int32Array;
  private readonly long: LongMerger | HeapMerger;
  private readonly tokens = new Int32Array(SHORT);
  /** Rank of the pair that begins at each token. */
  private readonly ranks = new Int32Array(SHORT);

  /** @param byteIds id of the token of each byte */
  constructor(table: MergeTable, byteIds: Int32Array) {
    this.table = table;
    this.byteIds = byteIds;
    this.long = table.isMonotone ? new LongMerger(table, byteIds) : new HeapMerger(table, byteIds);
  }

  /** Adds the ids of `text[start..end)`, at least one byte. */
  merge(text: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    if (end - start > SHORT) this.long.merge(text, start, end, ids);
    else this.mergeShort(text, start, end, ids);
  }

  private mergeShort(text: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    const { tokens, ranks, byteIds } = this;
    const { results } = this.table;
    let last = end - start - 1;
    for (let i = 0; i <= last; i++) tokens[i] = byteIds[text[start + i]!]!;
    for (let i = 0; i < last; i++) ranks[i] = this.rankAt(i);
    for (;;) {
      let best = NONE;
      let at = 0;
      for (let i = 0; i < last; i++) {
        if (ranks[i]! < best) {
          best = ranks[i]!;
          at = i;
        }
      }
      if (best === NONE) break;
      tokens[at] = results[best]!;
      last--;
      for (let i = at + 1; i <= last; i++) {
        tokens[i] = tokens[i + 1]!;
        ranks[i] = ranks[i + 1]!;
      }
      if (at > 0) ranks[at - 1] = this.rankAt(at - 1);
      if (at < last) ranks[at] = this.rankAt(at);
    }
    for (let i = 0; i <= last; i++) ids.add(tokens[i]!);
  }

  private rankAt(index: number): number {
    const rank = this.table.rankOf(this.tokens[index]!, this.tokens[index + 1]!);
    return rank < 0 ? NONE : rank;
  }
}
