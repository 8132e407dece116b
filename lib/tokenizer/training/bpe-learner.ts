import { grown } from '../arrays.js';
import { BYTES_BY_CHARACTER, CHARACTER_OF_BYTE } from '../byte-level/byte-alphabet.js';
import { PairHeap } from './pair-heap.js';
import { PairList } from './pair-list.js';
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
  /** They get the first ids. A merge that would spell one in the alphabet of bytes is left out. */
  specialTokens: readonly string[];
}

/**
 * Learns the merges of byte-pair encoding (Sennrich et al. 2016, algorithm 1, on bytes): again and again the most frequent
 * pair of neighbouring tokens becomes a token; of equally frequent pairs the one with the lowest left id, then the lowest
 * right id. Words count as often as they occur, and pairs never cross their ends. Of overlapping occurrences ("aaa") the
 * left one is merged. Hugging Face's `BpeTrainer` finds the same merges.
 *
 * Counts are never taken anew. The words lie in one array of cells, one per byte; a token's first and last cell hold its
 * id, so both neighbours are found by the lengths of tokens. Every position belongs to the list of the pair that begins
 * there. A merge walks along its pair's list and moves the neighbours to their new lists, so the time is in proportion to
 * the bytes of all distinct words, however long a word is. Memory: 16 bytes for each of those bytes, and 36 for each pair.
 *
 * A merge leaves no occurrence of its pair, and every pair that it makes holds its own, new token. So a pair is made in one
 * merge only, its count never rises afterwards, and no two merges spell the same token: the bytes of a token, wherever they
 * stand, go through the same merges at the same time.
 */
export class BpeLearner {
  /** Text of each token in the alphabet of bytes, by id. Grows while learning. */
  readonly tokens: string[];
  /** The merges in their order: ids of the left and the right token. */
  readonly merges: (readonly [left: number, right: number])[] = [];

  private readonly options: BpeOptions;
  /** Bytes of each token, by id. */
  private readonly lengths: Int32Array;

  // By position: the token, the pair that begins there, and the occurrences of that pair before and after it in its list.
  private readonly cells: Int32Array;
  private readonly pairOf: Int32Array;
  private readonly previous: Int32Array;
  private readonly following: Int32Array;

  // Words lie in groups of equal count, the most frequent first: where each group ends, and its count.
  private readonly groupEnds: Int32Array;
  private readonly groupCounts: Float64Array;
  private groupStart = 0;
  private group = 0;

  private readonly list = new PairList();
  private readonly heap = new PairHeap(this.list);
  /** Pairs from this one on are not yet in the heap. */
  private firstNew = 0;
  /** The pair of each token with the newest token on its right, and on its left; older than `firstNew`: none yet. */
  private readonly beforeNewest: Int32Array;
  private readonly afterNewest: Int32Array;
  private positions = new Int32Array(2 ** 10);

  constructor(words: WordCounts, options: BpeOptions) {
    this.options = options;
    this.tokens = [...options.specialTokens, ...BYTES_BY_CHARACTER.map((byte) => CHARACTER_OF_BYTE[byte]!)];
    this.lengths = new Int32Array(options.vocabSize).fill(1);
    this.beforeNewest = new Int32Array(options.vocabSize).fill(-1);
    this.afterNewest = new Int32Array(options.vocabSize).fill(-1);
    const size = words.byteLength + words.size + 1;
    this.cells = new Int32Array(size).fill(BOUNDARY);
    this.pairOf = new Int32Array(size);
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
    }
  }

  /** Writes the words into the cells. */
  private lay(words: WordCounts): { ends: number[]; counts: number[] } {
    const ids = new Int32Array(256);
    for (const [index, byte] of BYTES_BY_CHARACTER.entries()) ids[byte] = this.options.specialTokens.length + index;
    const order = Int32Array.from({ length: words.size }, (_, word) => word);
    order.sort((a, b) => words.counts[b]! - words.counts[a]!);
    const groups = { ends: [] as number[], counts: [] as number[] };
    let cell = 1;
    for (const word of order) {
      const count = words.counts[word]!;
      const end = words.starts[word + 1]!;
      for (let index = words.starts[word]!; index < end; index++) this.cells[cell++] = ids[words.bytes[index]!]!;
      cell++;
      if (groups.counts.at(-1) === count) groups.ends.pop();
      else groups.counts.push(count);
      groups.ends.push(cell);
    }
    return groups;
  }

  private *countPairs(): Generator<void, void> {
    const { cells, list } = this;
    const firstByte = this.options.specialTokens.length;
    const pairs = new Int32Array(2 ** 16).fill(-1);
    const size = cells.length - 1;
    for (let from = 1; from < size; from += STEP) {
      const to = Math.min(size, from + STEP);
      for (let position = from; position < to; position++) {
        const left = cells[position]!;
        const right = cells[position + 1]!;
        if (left === BOUNDARY || right === BOUNDARY) continue;
        const key = (left - firstByte) * 256 + right - firstByte;
        if (pairs[key] === -1) pairs[key] = list.add(left, right);
        this.link(position, pairs[key]!, this.weightAt(position));
      }
      yield;
    }
    this.offerNewPairs();
  }

  private offerNewPairs(): void {
    const { counts, size } = this.list;
    for (let pair = this.firstNew; pair < size; pair++) {
      if (counts[pair]! >= this.options.minFrequency) this.heap.push(pair, counts[pair]!);
    }
    this.firstNew = size;
  }

  /** The pair to merge next; -1 if none is frequent enough. */
  private mostFrequent(): number {
    const { specialTokens, minFrequency } = this.options;
    for (;;) {
      const pair = this.heap.pop();
      if (pair < 0) return -1;
      // Counts fall while a pair waits in the heap.
      const count = this.list.counts[pair]!;
      if (count === this.heap.count) {
        if (specialTokens.length === 0 || !specialTokens.includes(this.textOf(pair))) return pair;
      } else if (count >= minFrequency) this.heap.push(pair, count);
    }
  }

  private textOf(pair: number): string {
    return this.tokens[this.list.left[pair]!]! + this.tokens[this.list.right[pair]!]!;
  }

  private *merge(pair: number): Generator<void, void> {
    const left = this.list.left[pair]!;
    const right = this.list.right[pair]!;
    const text = this.textOf(pair);
    const newest = this.tokens.length;
    this.tokens.push(text);
    this.lengths[newest] = text.length;
    this.merges.push([left, right]);
    const positions = this.positionsOf(pair);
    // Only occurrences of one token after itself can overlap; then the order matters.
    if (left === right) positions.sort();
    for (let from = 0; from < positions.length; from += STEP) {
      this.join(positions.subarray(from, from + STEP), left, right, newest);
      yield;
    }
    this.offerNewPairs();
  }

  private positionsOf(pair: number): Int32Array {
    let size = 0;
    for (let position = this.list.heads[pair]!; position >= 0; position = this.following[position]!) {
      if (size === this.positions.length) this.positions = grown(this.positions, 2 * size);
      this.positions[size++] = position;
    }
    return this.positions.subarray(0, size);
  }

  /** Makes the tokens `left` and `right` at these positions the token `newest`. */
  private join(positions: Int32Array, left: number, right: number, newest: number): void {
    const { cells, lengths } = this;
    for (const position of positions) {
      const middle = position + lengths[left]!;
      // The occurrence before may have taken a part of this one.
      if (cells[position] !== left || cells[middle] !== right) continue;
      const end = middle + lengths[right]!;
      const weight = this.weightAt(position);
      const before = cells[position - 1]!;
      const after = cells[end]!;
      const start = before === BOUNDARY ? position : position - lengths[before]!;
      this.unlink(position, weight);
      if (before !== BOUNDARY) this.unlink(start, weight);
      if (after !== BOUNDARY) this.unlink(middle, weight);
      cells[middle] = JOINED;
      cells[position] = newest;
      cells[end - 1] = newest;
      if (before !== BOUNDARY) this.link(start, this.pairBefore(before, newest), weight);
      if (after !== BOUNDARY) this.link(position, this.pairAfter(newest, after), weight);
    }
  }

  /** The pair of `token` and the newest token. */
  private pairBefore(token: number, newest: number): number {
    const pair = this.beforeNewest[token]!;
    if (pair >= this.firstNew) return pair;
    this.beforeNewest[token] = this.list.add(token, newest);
    return this.beforeNewest[token]!;
  }

  /** The pair of the newest token and `token`. */
  private pairAfter(newest: number, token: number): number {
    if (token === newest) return this.pairBefore(newest, newest);
    const pair = this.afterNewest[token]!;
    if (pair >= this.firstNew) return pair;
    this.afterNewest[token] = this.list.add(newest, token);
    return this.afterNewest[token]!;
  }

  private link(position: number, pair: number, weight: number): void {
    const head = this.list.heads[pair]!;
    this.pairOf[position] = pair;
    this.previous[position] = -1;
    this.following[position] = head;
    if (head >= 0) this.previous[head] = position;
    this.list.heads[pair] = position;
    this.list.counts[pair]! += weight;
  }

  private unlink(position: number, weight: number): void {
    const pair = this.pairOf[position]!;
    const before = this.previous[position]!;
    const after = this.following[position]!;
    if (before >= 0) this.following[before] = after;
    else this.list.heads[pair] = after;
    if (after >= 0) this.previous[after] = before;
    this.list.counts[pair]! -= weight;
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
