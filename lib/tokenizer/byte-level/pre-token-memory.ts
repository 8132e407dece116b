import { grown } from '../arrays.js';
import type { IdBuffer } from '../id-buffer.js';

/** Pre-tokens remembered; when there are more, all are forgotten. */
const REMEMBERED = 2 ** 16;

/** Longer ones, in bytes, hardly ever come again. */
const LONGEST = 64;

/**
 * Remembers what pre-tokens became: words come again and again. Memory stays below some 20 MB, whatever the text.
 */
export class PreTokenMemory {
  private size = 0;
  /** The pre-tokens one after the other, and their ids: pre-token `i` is `starts[i]` to `starts[i + 1]`. */
  private bytes = new Uint8Array(2 ** 16);
  private readonly starts = new Int32Array(REMEMBERED + 1);
  private ids = new Int32Array(2 ** 16);
  private readonly idStarts = new Int32Array(REMEMBERED + 1);
  private readonly hashes = new Int32Array(REMEMBERED);
  /** Pre-token by hash, open addressing: index + 1, or 0. At most half full. */
  private readonly table = new Int32Array(2 * REMEMBERED);

  /** Adds the ids of `text[start..end)` if they are remembered; false if they are not. */
  recall(text: Uint8Array, start: number, end: number, ids: IdBuffer): boolean {
    if (end - start > LONGEST) return false;
    const hash = hashOf(text, start, end);
    const mask = this.table.length - 1;
    for (let slot = hash & mask; this.table[slot] !== 0; slot = (slot + 1) & mask) {
      const index = this.table[slot]! - 1;
      if (this.hashes[index] !== hash || !this.equals(index, text, start, end)) continue;
      const to = this.idStarts[index + 1]!;
      for (let i = this.idStarts[index]!; i < to; i++) ids.add(this.ids[i]!);
      return true;
    }
    return false;
  }

  /** Remembers that `text[start..end)`, which is not known yet, became the ids from number `first` on. */
  remember(text: Uint8Array, start: number, end: number, ids: IdBuffer, first: number): void {
    if (end - start > LONGEST) return;
    if (this.size === REMEMBERED) {
      this.table.fill(0);
      this.size = 0;
    }
    const index = this.append(text, start, end, ids, first);
    const mask = this.table.length - 1;
    let slot = this.hashes[index]! & mask;
    while (this.table[slot] !== 0) slot = (slot + 1) & mask;
    this.table[slot] = index + 1;
  }

  private equals(index: number, text: Uint8Array, start: number, end: number): boolean {
    let position = this.starts[index]!;
    if (this.starts[index + 1]! - position !== end - start) return false;
    for (let i = start; i < end; i++) if (this.bytes[position++] !== text[i]) return false;
    return true;
  }

  private append(text: Uint8Array, start: number, end: number, ids: IdBuffer, first: number): number {
    const index = this.size++;
    const from = this.starts[index]!;
    const to = from + end - start;
    if (to > this.bytes.length) this.bytes = grown(this.bytes, 2 * this.bytes.length);
    this.bytes.set(text.subarray(start, end), from);
    this.starts[index + 1] = to;
    const idFrom = this.idStarts[index]!;
    const idTo = idFrom + ids.count - first;
    if (idTo > this.ids.length) this.ids = grown(this.ids, 2 * this.ids.length);
    for (let i = idFrom; i < idTo; i++) this.ids[i] = ids.at(first + i - idFrom);
    this.idStarts[index + 1] = idTo;
    this.hashes[index] = hashOf(text, start, end);
    return index;
  }
}

/** FNV-1a, with its high bits mixed into the low ones, which choose the slot. */
export function hashOf(text: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let index = start; index < end; index++) hash = Math.imul(hash ^ text[index]!, 0x01000193);
  return hash ^ (hash >>> 15);
}
