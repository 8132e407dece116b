import type { TokenizerModel } from '../tokenizer/types.js';

/** How many ids of the prompt the decoder sees, so that joining marks (SentencePiece's space) come out right. */
const CONTEXT_IDS = 8;

/**
 * What may still become a character: bytes that make none yet are U+FFFD, one for each or one for all of them, and all but
 * the last byte of the longest character are three.
 */
const UNFINISHED = /\uFFFD{1,3}$/;

/** Turns ids into text as they come, holding back what may still change. */
export class TextStream {
  /** Ids from which the text is decoded: first those whose text is out already, then the held ones. */
  private ids: number[];
  private known: string;

  constructor(
    private readonly tokenizer: TokenizerModel,
    prompt: readonly number[],
  ) {
    this.ids = prompt.slice(-CONTEXT_IDS);
    this.known = this.decode();
  }

  /** The text that this id completes; empty while a character is incomplete. */
  push(id: number): string {
    this.ids.push(id);
    const text = this.decode();
    const whole = finished(text);
    const piece = whole.slice(this.known.length);
    if (piece !== '') this.known = whole;
    if (this.ids.length > 2 * CONTEXT_IDS) this.forget(text.length - whole.length);
    return piece;
  }

  /** What was held back and is text after all; a character that stayed incomplete is left out. */
  end(): string {
    return finished(this.decode()).slice(this.known.length);
  }

  /** Leaves the older ids out, unless one of them is needed for the `held` characters at the end. */
  private forget(held: number): void {
    const ids = this.ids;
    this.ids = ids.slice(-CONTEXT_IDS);
    const text = this.decode();
    const known = finished(text);
    if (text.length - known.length === held) this.known = known;
    else this.ids = ids;
  }

  private decode(): string {
    return this.ids.length === 0 ? '' : this.tokenizer.decode(this.ids, { skipSpecialTokens: true });
  }
}

function finished(text: string): string {
  return text.replace(UNFINISHED, '');
}

/** Finds stop strings in a stream of pieces, also across pieces. */
export class StopFilter {
  private held = '';
  stopped = false;

  constructor(private readonly stops: readonly string[]) {}

  /** The text that is certainly before any stop string. */
  push(piece: string): string {
    this.held += piece;
    const found = this.stops.map((stop) => this.held.indexOf(stop)).filter((index) => index >= 0);
    this.stopped = found.length > 0;
    const length = this.stopped ? Math.min(...found) : this.held.length - this.suspiciousEnd();
    const text = this.held.slice(0, length);
    this.held = this.held.slice(length);
    return text;
  }

  /** The text that looked like the beginning of a stop string. */
  end(): string {
    return this.stopped ? '' : this.held;
  }

  /** Length of the longest end of the held text that begins a stop string. */
  private suspiciousEnd(): number {
    const longest = Math.max(0, ...this.stops.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, this.held.length); length > 0; length--) {
      const end = this.held.slice(-length);
      if (this.stops.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }
}
