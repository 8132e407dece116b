import { PairHeap } from '../pair-heap.js';
import { type ModelProto, PieceType } from './model-proto.js';
import { PieceTrie } from './piece-trie.js';
import { characterEnd, type PieceOutput, type Segmenter, symbolEnd } from './segmenter.js';

/** Room for longer texts than this is given back after use. */
const KEPT_UNITS = 2 ** 20;

/**
 * Byte-pair-encoding segmentation as `bpe::Model` of SentencePiece does it.
 *
 * The text starts as single characters. Of all neighbours that together are a piece, the pair with the best score is
 * joined, of equal scores the leftmost, until no pair is left. User-defined symbols are never joined to anything. A
 * heap gives the next pair, so the time is O(n log n) in the length of the text.
 */
export class BpeSegmenter implements Segmenter {
  private readonly trie: PieceTrie;
  private readonly symbols: PieceTrie | undefined;
  /** Place of each piece in the order of merging; pieces of equal score share one. */
  private readonly ranks: Int32Array;
  private readonly isUnused: Uint8Array;

  // The symbols of the current text, by index: where they start and end (an empty one was joined to its left
  // neighbour), the indices of their neighbours (-1: none), their trie node (0: none, so they can start no piece),
  // and whether they must not be joined.
  private starts = new Int32Array(0);
  private ends = new Int32Array(0);
  private previous = new Int32Array(0);
  private following = new Int32Array(0);
  private nodes = new Int32Array(0);
  private isFrozen = new Uint8Array(0);
  private readonly heap = new PairHeap();
  /** How pieces of type "unused" were last joined: start, middle and end, by id. */
  private readonly splits = new Map<number, readonly [start: number, middle: number, end: number]>();

  /** @param symbols user-defined symbols, if there are any */
  constructor(
    model: ModelProto,
    symbols: PieceTrie | undefined,
    private readonly unkId: number,
  ) {
    this.symbols = symbols;
    this.isUnused = model.types.map((type) => (type === PieceType.unused ? 1 : 0));
    const entries: [string, number][] = [];
    for (const [id, piece] of model.pieces.entries()) {
      const type = model.types[id];
      if (type === PieceType.normal || type === PieceType.userDefined || type === PieceType.unused)
        entries.push([piece, id]);
    }
    this.trie = new PieceTrie(entries);
    this.ranks = rankByScore(model.scores);
  }

  segment(units: Uint16Array, count: number, output: PieceOutput): void {
    this.reserve(count);
    const symbolCount = this.split(units, count);
    this.splits.clear();
    for (let i = 1; i < symbolCount; i++) this.offer(units, i - 1, i);
    this.mergeAll(units);
    for (let i = 0; i >= 0; i = this.following[i]!) this.emit(units, this.starts[i]!, this.ends[i]!, output);
    this.heap.clear();
  }

  /** Splits the text into characters and user-defined symbols; returns their number. */
  private split(units: Uint16Array, count: number): number {
    let index = 0;
    let start = 0;
    while (start < count) {
      const frozenEnd = symbolEnd(this.symbols, units, start, count);
      const end = frozenEnd > start ? frozenEnd : characterEnd(units, start, count);
      this.starts[index] = start;
      this.ends[index] = end;
      this.previous[index] = index - 1;
      this.following[index] = end < count ? index + 1 : -1;
      this.nodes[index] = this.nodeOf(units, start, end);
      this.isFrozen[index] = frozenEnd > start ? 1 : 0;
      index++;
      start = end;
    }
    return index;
  }

  private mergeAll(units: Uint16Array): void {
    const { starts, ends, previous, following, nodes, heap } = this;
    while (heap.pop()) {
      const { left, right, end } = heap;
      // Outdated if one of the two was joined to something else meanwhile.
      if (starts[left] === ends[left] || starts[right] === ends[right] || ends[right] !== end) continue;
      const middle = starts[right]!;
      nodes[left] = this.trie.walk(nodes[left]!, units, middle, end);
      ends[left] = end;
      ends[right] = middle;
      const next = following[right]!;
      following[left] = next;
      if (next >= 0) previous[next] = left;
      this.offer(units, previous[left]!, left);
      this.offer(units, left, next);
    }
  }

  /** Puts a pair of neighbours into the heap if they form a piece together. */
  private offer(units: Uint16Array, left: number, right: number): void {
    if (left < 0 || right < 0 || this.isFrozen[left] === 1 || this.isFrozen[right] === 1) return;
    const node = this.trie.walk(this.nodes[left]!, units, this.starts[right]!, this.ends[right]!);
    const id = this.trie.ids[node]!;
    if (id < 0) return;
    this.heap.push(this.ranks[id]!, left, right, this.ends[right]!);
    if (this.isUnused[id] === 1) this.splits.set(id, [this.starts[left]!, this.starts[right]!, this.ends[right]!]);
  }

  /** Hands on the piece `units[start..end)`; an unused one as the two parts that it was joined from. */
  private emit(units: Uint16Array, start: number, end: number, output: PieceOutput): void {
    // A stack of our own, because an unused piece may consist of thousands of unused pieces.
    const pending = [start, end];
    while (pending.length > 0) {
      const to = pending.pop()!;
      const from = pending.pop()!;
      const id = this.trie.ids[this.nodeOf(units, from, to)]!;
      const parts = id >= 0 && this.isUnused[id] === 1 ? this.splits.get(id) : undefined;
      if (parts === undefined) output.push(id < 0 ? this.unkId : id, units, from, to);
      else pending.push(parts[1], parts[2], parts[0], parts[1]);
    }
  }

  private nodeOf(units: Uint16Array, start: number, end: number): number {
    return this.trie.walk(this.trie.first[units[start]!]!, units, start + 1, end);
  }

  private reserve(count: number): void {
    const room = this.starts.length;
    if (count <= room && room <= KEPT_UNITS) return;
    const size = Math.max(1024, count > room ? Math.min(2 * count, count + KEPT_UNITS) : count);
    this.starts = new Int32Array(size);
    this.ends = new Int32Array(size);
    this.previous = new Int32Array(size);
    this.following = new Int32Array(size);
    this.nodes = new Int32Array(size);
    this.isFrozen = new Uint8Array(size);
  }
}

/** Rank of each score: 0 for the highest, the same for equal ones. */
function rankByScore(scores: Float32Array): Int32Array {
  const sorted = [...new Set(scores)].sort((a, b) => b - a);
  const rankOf = new Map(sorted.map((score, rank) => [score, rank]));
  return Int32Array.from(scores, (score) => rankOf.get(score)!);
}
