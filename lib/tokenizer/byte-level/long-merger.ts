import { grown } from '../arrays.js';
import type { IdBuffer } from '../id-buffer.js';
import type { MergeTable } from './merge-table.js';

/** Room for longer pre-tokens than this is given back after use: 24 bytes for each of their bytes. */
const KEPT = 2 ** 18;

const NONE = -1;

/**
 * Byte-pair encoding of pre-tokens of any length: a line of ten million letters without a break is one. Positions wait in
 * lists, one for each merge, so that the time is in proportion to the bytes. For merges that are monotone.
 */
export class LongMerger {
  private readonly table: MergeTable;
  private readonly byteIds: Int32Array;

  // By position: the token that begins there, its neighbours, the merge of it and the one behind it, and the neighbours in
  // the list of that merge. Positions inside a token are never looked at.
  private tokens = new Int32Array(0);
  private before = new Int32Array(0);
  private behind = new Int32Array(0);
  private ranks = new Int32Array(0);
  private previous = new Int32Array(0);
  private following = new Int32Array(0);

  /** First position in the list of each merge, by rank. All are empty between two calls. */
  private readonly heads: Int32Array;
  private readonly waiting = new RankHeap();

  constructor(table: MergeTable, byteIds: Int32Array) {
    this.table = table;
    this.byteIds = byteIds;
    this.heads = new Int32Array(table.results.length).fill(NONE);
  }

  /** Adds the ids of `text[start..end)`, at least one byte. The merges must be monotone. */
  merge(text: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    const length = end - start;
    this.reserve(length);
    for (let i = 0; i < length; i++) {
      this.tokens[i] = this.byteIds[text[start + i]!]!;
      this.before[i] = i - 1;
      this.behind[i] = i + 1 < length ? i + 1 : NONE;
    }
    for (let i = length - 1; i >= 0; i--) this.offer(i);
    for (let rank = this.waiting.pop(); rank !== NONE; rank = this.waiting.pop()) this.mergeAll(rank);
    for (let i = 0; i !== NONE; i = this.behind[i]!) ids.add(this.tokens[i]!);
    if (length > KEPT) this.reserve(0);
  }

  /** Does one merge wherever it is possible. */
  private mergeAll(rank: number): void {
    const { tokens, before, behind } = this;
    const result = this.table.results[rank]!;
    for (const position of this.positionsOf(rank)) {
      // The occurrence before may have taken a part of this one.
      if (this.ranks[position] !== rank) continue;
      const right = behind[position]!;
      const end = behind[right]!;
      const left = before[position]!;
      this.withdraw(position);
      this.withdraw(right);
      if (left !== NONE) this.withdraw(left);
      tokens[position] = result;
      behind[position] = end;
      if (end !== NONE) before[end] = position;
      this.offer(position);
      if (left !== NONE) this.offer(left);
    }
  }

  /** Where this merge is possible. From the left where the order matters: where occurrences overlap, as in "aaa". */
  private positionsOf(rank: number): Int32Array {
    let positions = new Int32Array(64);
    let size = 0;
    for (let position = this.heads[rank]!; position !== NONE; position = this.following[position]!) {
      if (size === positions.length) positions = grown(positions, 2 * size);
      positions[size++] = position;
    }
    const found = positions.subarray(0, size);
    if (size === 0) return found;
    const first = found[0]!;
    const overlap = this.tokens[first] === this.tokens[this.behind[first]!];
    return overlap ? inOrder(found) : found;
  }

  /** Puts the pair that begins at a position into its list. */
  private offer(position: number): void {
    const right = this.behind[position]!;
    const rank = right === NONE ? NONE : this.table.rankOf(this.tokens[position]!, this.tokens[right]!);
    this.ranks[position] = rank;
    if (rank === NONE) return;
    const head = this.heads[rank]!;
    if (head === NONE) this.waiting.push(rank);
    else this.previous[head] = position;
    this.previous[position] = NONE;
    this.following[position] = head;
    this.heads[rank] = position;
  }

  private withdraw(position: number): void {
    const rank = this.ranks[position]!;
    if (rank === NONE) return;
    this.ranks[position] = NONE;
    const previous = this.previous[position]!;
    const following = this.following[position]!;
    if (previous === NONE) this.heads[rank] = following;
    else this.following[previous] = following;
    if (following !== NONE) this.previous[following] = previous;
  }

  private reserve(length: number): void {
    if (length > 0 && length <= this.tokens.length) return;
    this.tokens = new Int32Array(length);
    this.before = new Int32Array(length);
    this.behind = new Int32Array(length);
    this.ranks = new Int32Array(length);
    this.previous = new Int32Array(length);
    this.following = new Int32Array(length);
  }
}

/** Sorts positions. They mostly come in one order or the other, which sorting would not profit from. */
function inOrder(positions: Int32Array): Int32Array {
  let [rises, falls] = [0, 0];
  for (let i = 1; i < positions.length; i++) positions[i - 1]! < positions[i]! ? rises++ : falls++;
  if (falls === 0) return positions;
  return rises === 0 ? positions.reverse() : positions.sort();
}

/** A binary heap of ranks, the lowest first. */
class RankHeap {
  private size = 0;
  private ranks = new Int32Array(2 ** 10);

  push(rank: number): void {
    if (this.size === this.ranks.length) this.ranks = grown(this.ranks, 2 * this.size);
    const { ranks } = this;
    let index = this.size++;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (ranks[parent]! <= rank) break;
      ranks[index] = ranks[parent]!;
      index = parent;
    }
    ranks[index] = rank;
  }

  /** Takes the lowest out; -1 if there is none. */
  pop(): number {
    if (this.size === 0) return NONE;
    const { ranks } = this;
    const first = ranks[0]!;
    const last = --this.size;
    const rank = ranks[last]!;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= last) break;
      if (child + 1 < last && ranks[child + 1]! < ranks[child]!) child++;
      if (ranks[child]! >= rank) break;
      ranks[index] = ranks[child]!;
      index = child;
    }
    ranks[index] = rank;
    return first;
  }
}
