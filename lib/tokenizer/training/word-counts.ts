import { KotodamaError } from '../../errors.js';
import { grown } from '../arrays.js';
import { hashOf } from '../byte-level/pre-token-memory.js';

/** Most bytes that distinct words may have together: learning merges needs four typed arrays of that many numbers. */
const MAX_BYTES = 2 ** 29;

/**
 * How often each word (any sequence of bytes) occurs. Memory grows with the distinct words alone: their bytes, and some
 * 30 bytes for each.
 */
export class WordCounts {
  /** Number of distinct words. */
  size = 0;
  /** The words one after the other, in the order in which they came first; word `i` is `starts[i]` to `starts[i + 1]`. */
  bytes = new Uint8Array(2 ** 16);
  starts = new Int32Array(2 ** 12);
  /** Occurrences of each word. */
  counts = new Float64Array(2 ** 12);
  private hashes = new Int32Array(2 ** 12);
  /** Word by hash, open addressing: index + 1, or 0. At most half full. */
  private table = new Int32Array(2 ** 13);
  private readonly maxBytes: number;

  /** @param maxBytes a smaller limit, for tests */
  constructor(maxBytes = MAX_BYTES) {
    this.maxBytes = maxBytes;
  }

  /** Bytes of the distinct words together. */
  get byteLength(): number {
    return this.starts[this.size]!;
  }

  /**
   * Counts the word `text[start..end)`.
   *
   * @throws KotodamaError `ERR_MEMORY` when there are too many distinct words
   */
  add(text: Uint8Array, start: number, end: number): void {
    const hash = hashOf(text, start, end);
    const mask = this.table.length - 1;
    let slot = hash & mask;
    for (; this.table[slot] !== 0; slot = (slot + 1) & mask) {
      const word = this.table[slot]! - 1;
      if (this.hashes[word] === hash && this.equals(word, text, start, end)) {
        this.counts[word]!++;
        return;
      }
    }
    this.table[slot] = this.append(text, start, end, hash) + 1;
    if (2 * this.size > this.table.length) this.rehash();
  }

  private equals(word: number, text: Uint8Array, start: number, end: number): boolean {
    let position = this.starts[word]!;
    if (this.starts[word + 1]! - position !== end - start) return false;
    for (let index = start; index < end; index++) if (this.bytes[position++] !== text[index]) return false;
    return true;
  }

  private append(text: Uint8Array, start: number, end: number, hash: number): number {
    const from = this.byteLength;
    const to = from + end - start;
    if (to > this.maxBytes) {
      throw new KotodamaError('ERR_MEMORY', 'The text has too many different words for one tokenizer', {
        expected: `at most ${this.maxBytes} bytes of different words`,
        received: 'more',
        hint: 'train on a part of the text, for example every tenth line: a tokenizer hardly gains from more',
      });
    }
    if (to > this.bytes.length) this.bytes = grown(this.bytes, Math.max(to, 2 * this.bytes.length));
    if (this.size + 2 > this.starts.length) {
      const length = 2 * this.starts.length;
      this.starts = grown(this.starts, length);
      this.counts = grown(this.counts, length);
      this.hashes = grown(this.hashes, length);
    }
    this.bytes.set(text.subarray(start, end), from);
    const word = this.size++;
    this.starts[word + 1] = to;
    this.counts[word] = 1;
    this.hashes[word] = hash;
    return word;
  }

  private rehash(): void {
    this.table = new Int32Array(2 * this.table.length);
    const mask = this.table.length - 1;
    for (let word = 0; word < this.size; word++) {
      let slot = this.hashes[word]! & mask;
      while (this.table[slot] !== 0) slot = (slot + 1) & mask;
      this.table[slot] = word + 1;
    }
  }
}
