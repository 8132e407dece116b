import { grown } from './arrays.js';
import { BYTES_BY_CHARACTER, CHARACTER_OF_BYTE } from './byte-alphabet.js';
import { PairHeap } from './pair-heap.js';
import { PairTable } from './pair-table.js';
import type { WordCounts } from './word-counts.js';

/** Cells that hold no token: the boundary between words, and the start of a token that was joined to its left one. */
const BOUNDARY = -1;
const JOINED = -2;

/** Work between two chances to stop: some ten milliseconds. */
const STEP = 2 ** 16;

/** What {@link BpeLearner} is told. */
export interface BpeOptions {
  /** Ids in the vocabulary, special tokens and the 256 bytes included. */
  vocabSize: number;
  /** Pairs that are rarer are not merged. */
  minFrequency: number;
  /** They get the first ids, and no merge spells one. */
  specialTokens: readonly string[];
}

/**
 * Learns the merges of byte-pair encoding (Sennrich et al. 2016, algorithm 1, on bytes): again and again the most frequent
 * pair of neighbouring tokens becomes a token; of equally frequent pairs the one with the lowest left id, then the lowest
 * right id. Words count as often as they occur, and pairs never cross their ends.
 *
 * Counts are never taken anew. The words lie in one array of cells, one per byte; a token's first and last cell hold its
 * id, so both neighbours are found by the lengths of tokens. Every position belongs to the list of the pair that begins
 * there. A merge walks along its pair's list and moves the neighbours to their new lists, so the time is in proportion to
 * the bytes of all distinct words, however long a word is. Memory: 16 bytes for each of those bytes, and 30 for each pair.
 */
export class BpeLearner {
  /** Text of each token in the alphabet of bytes, by id. Grows while learning. */
  readonly tokens: string[];
  /** The merges in their order: ids of the left and the right token. */
  readonly merges: (readonly [left: number, right: number])[] = [];

  private readonly options: BpeOptions;
  private readonly idOf: Map<string, number>;
  private readonly mergedBefore = new Set<number>();
  /** Bytes of each token, by id. */
  private readonly lengths: Int32Array;

  // By position: the token, the pair that begins there, and the occurrences of that pair before and after it in its list.
  private readonly cells: Int32Array;
  private readonly pairs: Int32Array;
  private readonly previous: Int32Array;
  private readonly following: Int32Array;

  // Words lie in groups of equal count, the most frequent first: where each group ends, and its count.
  private readonly groupEnds: Int32Array;
  private readonly groupCounts: Float64Array;
  private groupStart = 0;
  private group = 0;

  private readonly table = new PairTable();
  private readonly heap = new PairHeap(this.table);
  /** Pairs that got occurrences since the last merge, and the number of merges when each got its last. */
  private touched: number[] = [];
  private touchedAt = new Int32Array(2 ** 12);
  private round = 1;
  private positions = new Int32Array(2 ** 10);

  constructor(words: WordCounts, options: BpeOptions) {
    this.options = options;
    this.tokens = [...options.specialTokens, ...BYTES_BY_CHARACTER.map((byte) => CHARACTER_OF_BYTE[byte]!)];
    this.idOf = new Map(this.tokens.map((token, id) => [token, id]));
    this.lengths = new Int32Array(Math.max(options.vocabSize, this.tokens.length)).fill(1);
    const size = words.byteLength + words.size + 1;
    this.cells = new Int32Array(size).fill(BOUNDARY);
    this.pairs = new Int32Array(size);
    this.previous = new Int32Array(size);
    this.following = new Int32Array(size);
    const groups = this.lay(words);
    this.groupEnds = Int32Array.from(groups.ends);
    this.groupCounts = Float64Array.from(groups.counts);
  }

  /** Learns everything, stopping every few milliseconds to let the caller do something else or give up. */
  *learn(): Generator<void, void> {
    yield* this.countPairs();
    while (this.tokens.length < this.options.vocabSize) {
      const pair = this.mostFrequent();
      if (pair < 0) return;
      yield* this.merge(pair);
      yield;
    }
  }

  /** Writes the words into the cells. */
  private lay(words: WordCounts): { ends: number[]; counts: number[] } {
    const ids = new Int32Array(256);
    for (const [index, byte] of BYTES_BY_CHARACTER.entries()) ids[byte] = this.options.specialTokens.length + index;
    const order = Int32Array.from({ length: words.size }, (_, word) => word);
    order.sort((a, b) => words.counts[b]! - words.counts[a]! || a - b);
    const groups = { ends: [] as number[], counts: [] as number[] };
    let cell = 1;
    for (const word of order) {
      const count = words.counts[word]!;
      const end = words.starts[word + 1]!;
      for (let index = words.starts[word]!; index < end; index++) this.cells[cell++] = ids[words.bytes[index]!]!;
      cell++;
      if (groups.counts.at(-1) === count) groups.ends[groups.ends.length - 1] = cell;
      else {
        groups.ends.push(cell);
        groups.counts.push(count);
      }
    }
    return groups;
  }

  private *countPairs(): Generator<void, void> {
    const { cells } = this;
    const size = cells.length - 1;
    for (let from = 1; from < size; from += STEP) {
      const to = Math.min(size, from + STEP);
      for (let position = from; position < to; position++) {
        const left = cells[position]!;
        const right = cells[position + 1]!;
        if (left >= 0 && right >= 0) this.link(position, left, right, this.weightAt(position));
      }
      yield;
    }
    this.offerTouched();
  }

  /** The pair to merge next; -1 if none is frequent enough. */
  private mostFrequent(): number {
    for (;;) {
      const pair = this.heap.pop();
      if (pair < 0) return -1;
      // Counts fall after a pair was put in. When they rise, it is put in again.
      const count = this.table.counts[pair]!;
      if (count === this.heap.count) {
        if (this.idOfMerged(pair) >= this.options.specialTokens.length) return pair;
      } else if (count >= this.options.minFrequency) this.heap.push(pair, count);
    }
  }

  /** Id of the token that a pair becomes; the next free one if there is no such token yet. */
  private idOfMerged(pair: number): number {
    const text = this.tokens[this.table.left[pair]!]! + this.tokens[this.table.right[pair]!]!;
    return this.idOf.get(text) ?? this.tokens.length;
  }

  private *merge(pair: number): Generator<void, void> {
    const left = this.table.left[pair]!;
    const right = this.table.right[pair]!;
    const id = this.idOfMerged(pair);
    if (id === this.tokens.length) {
      const text = this.tokens[left]! + this.tokens[right]!;
      this.tokens.push(text);
      this.idOf.set(text, id);
      this.lengths[id] = text.length;
    }
    // The same token may arise in two ways ("ab" + "c", "a" + "bc"), and so may a pair with it, after its own merge.
    if (!this.mergedBefore.has(pair)) {
      this.mergedBefore.add(pair);
      this.merges.push([left, right]);
    }
    const positions = this.positionsOf(pair);
    // Of overlapping occurrences ("aaa") the left one is taken.
    if (left === right) positions.sort();
    for (let from = 0; from < positions.length; from += STEP) {
      if (from > 0) yield;
      this.join(positions.subarray(from, from + STEP), left, right, id);
    }
    this.offerTouched();
  }

  private positionsOf(pair: number): Int32Array {
    let size = 0;
    for (let position = this.table.heads[pair]!; position >= 0; position = this.following[position]!) {
      if (size === this.positions.length) this.positions = grown(this.positions, 2 * size);
      this.positions[size++] = position;
    }
    return this.positions.subarray(0, size);
  }

  /** Makes tokens `left` and `right` at these positions one token. */
  private join(positions: Int32Array, left: number, right: number, id: number): void {
    const { cells, lengths } = this;
    for (const position of positions) {
      const middle = position + lengths[left]!;
      // The occurrence before took a part of this one.
      if (cells[position] !== left || cells[middle] !== right) continue;
      const end = middle + lengths[right]!;
      const weight = this.weightAt(position);
      const before = cells[position - 1]!;
      const after = cells[end]!;
      const start = before >= 0 ? position - lengths[before]! : position;
      this.unlink(position, weight);
      if (before >= 0) this.unlink(start, weight);
      if (after >= 0) this.unlink(middle, weight);
      cells[middle] = JOINED;
      cells[position] = id;
      cells[end - 1] = id;
      if (before >= 0) this.link(start, before, id, weight);
      if (after >= 0) this.link(position, id, after, weight);
    }
  }

  private link(position: number, left: number, right: number, weight: number): void {
    const { table } = this;
    const pair = table.numberOf(left, right);
    const head = table.heads[pair]!;
    this.pairs[position] = pair;
    this.previous[position] = -1;
    this.following[position] = head;
    if (head >= 0) this.previous[head] = position;
    table.heads[pair] = position;
    table.counts[pair]! += weight;
    if (pair >= this.touchedAt.length) this.touchedAt = grown(this.touchedAt, 2 * pair);
    if (this.touchedAt[pair] === this.round) return;
    this.touchedAt[pair] = this.round;
    this.touched.push(pair);
  }

  private unlink(position: number, weight: number): void {
    const pair = this.pairs[position]!;
    const before = this.previous[position]!;
    const after = this.following[position]!;
    if (before >= 0) this.following[before] = after;
    else this.table.heads[pair] = after;
    if (after >= 0) this.previous[after] = before;
    this.table.counts[pair]! -= weight;
  }

  private offerTouched(): void {
    for (const pair of this.touched) {
      const count = this.table.counts[pair]!;
      if (count >= this.options.minFrequency) this.heap.push(pair, count);
    }
    this.touched = [];
    this.round++;
  }

  /** How often the word at this position occurs. Neighbouring positions are mostly asked for one after the other. */
  private weightAt(position: number): number {
    const { groupEnds } = this;
    if (position >= groupEnds[this.group]! || position < this.groupStart) {
      let low = 0;
      let high = groupEnds.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (position < groupEnds[middle]!) high = middle;
        else low = middle + 1;
      }
      this.group = low;
      this.groupStart = low === 0 ? 0 : groupEnds[low - 1]!;
    }
    return this.groupCounts[this.group]!;
  }
}
