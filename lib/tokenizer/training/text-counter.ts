import type { TextVisitor } from '../../data/sources/read-chunk.js';
import { AddedTokens } from '../byte-level/added-tokens.js';
import { PreTokenScanner } from '../byte-level/pre-token-scanner.js';
import { Utf8Scratch } from '../utf8-scratch.js';
import { WordCounts } from './word-counts.js';

/** Counts the pre-tokens of texts. */
export class TextCounter implements TextVisitor {
  readonly words = new WordCounts();
  /** Bytes of the texts so far, without special tokens. */
  bytes = 0;
  private readonly scanner = new PreTokenScanner();
  private readonly special: AddedTokens;
  private readonly scratch = new Utf8Scratch();

  /** @param specialTokens left out, as encoding never hands them to the merges; a boundary on both sides */
  constructor(specialTokens: readonly string[]) {
    this.special = new AddedTokens(specialTokens.map((text, id) => ({ text, id })));
  }

  /** Lone surrogates count as U+FFFD. */
  text(text: string): void {
    const end = this.scratch.write(text);
    this.utf8(this.scratch.bytes, 0, end);
  }

  utf8(bytes: Uint8Array, start: number, end: number): void {
    let from = start;
    for (let at = this.special.find(bytes, from, end); at < end; at = this.special.find(bytes, from, end)) {
      this.addSection(bytes, from, at);
      from = at + this.special.length;
    }
    this.addSection(bytes, from, end);
  }

  private addSection(bytes: Uint8Array, start: number, end: number): void {
    this.bytes += end - start;
    for (let from = start; from < end; ) {
      const to = this.scanner.endOf(bytes, from, end);
      this.words.add(bytes, from, to);
      from = to;
    }
  }
}
