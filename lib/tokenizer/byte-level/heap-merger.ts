import type { IdBuffer } from '../id-buffer.js';
import { PairHeap } from '../pair-heap.js';
import type { MergeTable } from './merge-table.js';

const NONE = -1;

/**
 * Byte-pair encoding of pre-tokens of any length with merges in any order: one may make a pair that comes before it, so that
 * pairs are taken one by one from a heap. The time is O(n log n) in the bytes.
 */
export class HeapMerger {
  private readonly table: MergeTable;
  private readonly byteIds: Int32Array;
  private readonly heap = new PairHeap();

  constructor(table: MergeTable, byteIds: Int32Array) {
    this.table = table;
    this.byteIds = byteIds;
  }

  /** Adds the ids of `text[start..end)`, at least one byte. */
  merge(text: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    const { table, byteIds, heap } = this;
    const length = end - start;
    const tokens = Int32Array.from(text.subarray(start, end), (byte) => byteIds[byte]!);
    // Neighbours by position; a token that was joined to the one before it is none.
    const before = Int32Array.from({ length }, (_, position) => position - 1);
    const behind = Int32Array.from({ length }, (_, position) => (position + 1 < length ? position + 1 : NONE));
    const offer = (left: number) => {
      const right = behind[left]!;
      const rank = right === NONE ? NONE : table.rankOf(tokens[left]!, tokens[right]!);
      if (rank !== NONE) heap.push(rank, left, right, 0);
    };
    for (let position = 0; position < length; position++) offer(position);
    while (heap.pop()) {
      const { rank, left, right } = heap;
      // Outdated if one of the two was joined to something else meanwhile.
      const isThere = tokens[left] !== NONE && behind[left] === right;
      if (!isThere || table.rankOf(tokens[left]!, tokens[right]!) !== rank) continue;
      const next = behind[right]!;
      tokens[left] = table.results[rank]!;
      tokens[right] = NONE;
      behind[left] = next;
      if (next !== NONE) before[next] = left;
      if (before[left] !== NONE) offer(before[left]!);
      offer(left);
    }
    heap.clear();
    for (let position = 0; position !== NONE; position = behind[position]!) ids.add(tokens[position]!);
  }
}
