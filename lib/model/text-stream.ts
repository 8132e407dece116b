import type { RunTokenizer, TokenizerModel } from '../tokenizer/types.js';

/** How many ids before the next one the decoder sees, so that joining marks (SentencePiece's space) come out right. */
const CONTEXT_IDS = 8;

/** All bytes of the longest character but its last one. */
const MOST_OPEN = 3;

/** What may still become a character: bytes that make none yet are U+FFFD, one for each or one for all of them. */
const UNFINISHED = new RegExp(`\\uFFFD{1,${MOST_OPEN}}$`);

/**
 * Turns ids into text as they come, holding back what may still change: a character that is not complete, and a run of bytes
 * that is text only as a whole, to its end.
 */
export class TextStream {
  /** Ids from which the text is decoded: first those whose text is out already, then the held ones. */
  private ids: number[];
  private known: string;

  constructor(
    private readonly tokenizer: TokenizerModel,
    prompt: readonly number[],
  ) {
    this.ids = this.contextOf(prompt);
    this.known = this.decode();
  }

  /** The text that this id completes; empty while a character or a run of bytes is incomplete. */
  push(id: number): string {
    if (this.isLeftOut(id)) return '';
    this.ids.push(id);
    if (this.isOfRun(id)) return '';
    const text = this.decode();
    const whole = finished(text);
    const piece = whole.slice(this.known.length);
    if (piece !== '') this.known = whole;
    if (this.ids.length > 2 * CONTEXT_IDS) this.forget(text.length - whole.length);
    return piece;
  }

  /** What was held back and is text after all; a character that stayed incomplete is left out. */
  end(): string {
    let text = this.decode();
    if (!this.isOfRun(this.ids.at(-1))) return finished(text).slice(this.known.length);
    for (let open = 0; open < MOST_OPEN && text.endsWith('\uFFFD'); open++) {
      this.ids.pop();
      text = this.decode();
    }
    return text.slice(this.known.length);
  }

  /** The end of the prompt, with all of a run of bytes that may go on. */
  private contextOf(prompt: readonly number[]): number[] {
    const ids: number[] = [];
    for (let index = prompt.length - 1; index >= 0; index--) {
      const id = prompt[index] as number;
      if (ids.length >= CONTEXT_IDS && !this.isOfRun(ids.at(-1))) break;
      if (!this.isLeftOut(id)) ids.push(id);
    }
    return ids.reverse();
  }

  /** Leaves the older ids out, unless one of them is needed for the `held` characters at the end or for what follows. */
  private forget(held: number): void {
    const ids = this.ids;
    this.ids = ids.slice(-CONTEXT_IDS);
    const text = this.decode();
    const known = finished(text);
    // A text that is empty begins anew with the next id, and loses the space of its first word.
    if (known !== '' && text.length - known.length === held) this.known = known;
    else this.ids = ids;
  }

  /** Whether an id is a special token, which is no part of the text: however many there are, the ids before them count. */
  private isLeftOut(id: number): boolean {
    return this.tokenizer.decode([id], { skipSpecialTokens: true }) === '' && this.tokenizer.decode([id]) !== '';
  }

  private isOfRun(id: number | undefined): boolean {
    return id !== undefined && (this.tokenizer as Partial<RunTokenizer>).isOfRun?.(id) === true;
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
