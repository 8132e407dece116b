import { PreTokenScanner } from '../byte-level/pre-token-scanner.js';
import { Utf8Scratch } from '../utf8-scratch.js';
import { WordCounts } from './word-counts.js';

/** Counts the pre-tokens of texts. */
export class TextCounter {
  readonly words = new WordCounts();
  /** Bytes of the texts so far, without special tokens. */
  bytes = 0;
  private readonly scanner = new PreTokenScanner();
  private readonly special: RegExp | undefined;
  private readonly scratch = new Utf8Scratch();

  /** @param specialTokens left out, as encoding never hands them to the merges; a boundary on both sides */
  constructor(specialTokens: readonly string[]) {
    const longestFirst = [...specialTokens].sort((a, b) => b.length - a.length);
    const pattern = longestFirst.map((token) => token.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|');
    this.special = pattern === '' ? undefined : new RegExp(pattern, 'g');
  }

  /** Lone surrogates count as U+FFFD. */
  add(text: string): void {
    let start = 0;
    if (this.special !== undefined) {
      for (const { 0: token, index } of text.matchAll(this.special)) {
        this.addSection(text.slice(start, index));
        start = index + token.length;
      }
    }
    this.addSection(start === 0 ? text : text.slice(start));
  }

  private addSection(text: string): void {
    const written = this.scratch.write(text);
    const { bytes } = this.scratch;
    this.bytes += written;
    for (let start = 0; start < written; ) {
      const end = this.scanner.endOf(bytes, start, written);
      this.words.add(bytes, start, end);
      start = end;
    }
  }
}
