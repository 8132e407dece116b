import type { TextPosition } from './sources/text-source.js';
import type { TokenPart } from './token-stream.js';

/** A place among the ids: a text, and how many of its ids come before. */
export interface IdPosition extends TextPosition {
  skip: number;
}

/**
 * Joins the ids of texts and takes them away in blocks. Knows the text that its first id came from. Every id is copied
 * once, whatever the lengths of texts and blocks.
 */
export class IdQueue {
  /** Ids held. */
  length = 0;
  private parts: TokenPart[] = [];
  /** Ids of the first part that are gone. */
  private used = 0;
  /** The text of the first part that the first id is in, and its ids that are gone. */
  private text = 0;
  private skip = 0;
  private end: TextPosition;

  /** @param start where the first text will begin */
  constructor(start: TextPosition) {
    this.end = { file: start.file, offset: start.offset };
  }

  push(part: TokenPart): void {
    this.end = { file: part.file, offset: part.end };
    if (part.ids.length === 0) return;
    this.parts.push(part);
    this.length += part.ids.length;
  }

  /** The first ids into the beginning of `target`, as many as fit; they stay in the queue. */
  peek(target: Int32Array): void {
    let filled = 0;
    let from = this.used;
    for (const { ids } of this.parts) {
      if (filled === target.length) break;
      const piece = ids.subarray(from, from + target.length - filled);
      target.set(piece, filled);
      filled += piece.length;
      from = 0;
    }
  }

  /** Forgets the first `count` ids. */
  drop(count: number): void {
    this.length -= count;
    let left = count;
    while (left > 0) {
      const part = this.parts[0] as TokenPart;
      const rest = part.ids.length - this.used;
      if (left >= rest) {
        this.parts.shift();
        left -= rest;
        [this.used, this.text, this.skip] = [0, 0, 0];
      } else {
        this.used += left;
        this.walk(part.lengths, left);
        left = 0;
      }
    }
  }

  /** Where the first id comes from; with none, where the next text will begin. */
  position(): IdPosition {
    const part = this.parts[0];
    if (this.length === 0 || part === undefined) return { ...this.end, skip: 0 };
    let { text } = this;
    while (part.lengths[text] === 0) text++;
    return { file: part.file, offset: part.offsets[text] as number, skip: this.skip };
  }

  /** Ids of the first texts that have at most `most` ids together. The first id has to be a text's first. */
  countWhole(most: number): number {
    let count = 0;
    let text = this.text;
    for (const { lengths } of this.parts) {
      for (; text < lengths.length; text++) {
        const more = count + (lengths[text] as number);
        if (more > most) return count;
        count = more;
      }
      text = 0;
    }
    return count;
  }

  /** Moves over `count` ids, within one part. */
  private walk(lengths: Int32Array, count: number): void {
    this.skip += count;
    while (this.skip >= (lengths[this.text] as number)) {
      this.skip -= lengths[this.text] as number;
      this.text++;
    }
  }
}
