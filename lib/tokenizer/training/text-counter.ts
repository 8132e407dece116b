import { PreTokenScanner } from './pre-tokens.js';
import { WordCounts } from './word-counts.js';

/** A UTF-16 unit becomes at most three bytes of UTF-8. */
const BYTES_PER_UNIT = 3;

/** Counts the pre-tokens of texts. */
export class TextCounter {
  readonly words = new WordCounts();
  /** Bytes of the texts so far, without special tokens. */
  bytes = 0;
  private readonly scanner = new PreTokenScanner();
  private readonly special: RegExp | undefined;
  private readonly encoder = new TextEncoder();
  private buffer = new Uint8Array(2 ** 16);

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
    const longest = text.length * BYTES_PER_UNIT;
    // A buffer that an unusually long text needed is not kept.
    if (longest > this.buffer.length || this.buffer.length > 2 ** 24)
      this.buffer = new Uint8Array(2 * longest + 2 ** 16);
    const { written } = this.encoder.encodeInto(text, this.buffer);
    this.bytes += written;
    for (let start = 0; start < written; ) {
      const end = this.scanner.endOf(this.buffer, start, written);
      this.words.add(this.buffer, start, end);
      start = end;
    }
  }
}
