/**
 * GPT-2's pre-tokenization on UTF-8 bytes. The pattern is
 * `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, with Unicode's white space for `\s`; a
 * scanner written for it is some ten times faster than a regular expression.
 */

import { characterLength, codePointAt } from '../utf8.js';

/** What the pattern distinguishes. */
const OTHER = 0;
const LETTER = 1;
const NUMBER = 2;
const SPACE = 3;

/** Letters, numbers and white space are all below: above there are only private use, tags and unassigned planes. */
const CLASSIFIED = 0x40000;

const BLANK = 0x20;
const APOSTROPHE = 0x27;

const CONTRACTIONS = ['s', 't', 're', 've', 'm', 'll', 'd'].map((letters) => Buffer.from(letters));

let kinds: Uint8Array | undefined;

/** Kind of every code point; made at the first use, in some 30 ms. */
function characterKinds(): Uint8Array {
  if (kinds !== undefined) return kinds;
  kinds = new Uint8Array(CLASSIFIED);
  for (let codePoint = 0; codePoint < CLASSIFIED; codePoint++) {
    const character = String.fromCodePoint(codePoint);
    if (/\p{L}/u.test(character)) kinds[codePoint] = LETTER;
    else if (/\p{N}/u.test(character)) kinds[codePoint] = NUMBER;
    else if (/\p{White_Space}/u.test(character)) kinds[codePoint] = SPACE;
  }
  return kinds;
}

/** Cuts a text into the pieces that byte-pair encoding never joins: words with the space before them, mostly. */
export class PreTokenScanner {
  private readonly kinds = characterKinds();

  /**
   * Where the pre-token ends that begins at `start`.
   *
   * @param text well-formed UTF-8
   * @param end where the text ends; `start` lies before it
   */
  endOf(text: Uint8Array, start: number, end: number): number {
    const first = text[start]!;
    if (first === APOSTROPHE) {
      const length = contractionLength(text, start, end);
      if (length > 0) return start + length;
    }
    const kind = this.kindAt(text, start);
    if (kind !== SPACE) return this.runEnd(text, start, end, kind);
    // A blank goes with the word that follows it; other white space does not.
    const next = start + 1;
    const following = first === BLANK && next < end ? this.kindAt(text, next) : SPACE;
    return following === SPACE ? this.spaceEnd(text, start, end) : this.runEnd(text, next, end, following);
  }

  /** End of the characters of one kind from `start` on. */
  private runEnd(text: Uint8Array, start: number, end: number, kind: number): number {
    let position = start;
    while (position < end && this.kindAt(text, position) === kind) position += characterLength(text[position]!);
    return position;
  }

  /** White space before a word leaves its last character to the next pre-token, if it has more than one. */
  private spaceEnd(text: Uint8Array, start: number, end: number): number {
    let last = start;
    let position = start;
    while (position < end && this.kindAt(text, position) === SPACE) {
      last = position;
      position += characterLength(text[position]!);
    }
    return position === end || last === start ? position : last;
  }

  private kindAt(text: Uint8Array, position: number): number {
    const codePoint = codePointAt(text, position);
    return codePoint < CLASSIFIED ? this.kinds[codePoint]! : OTHER;
  }
}

/** Bytes of the `'s`, `'re`, ... at `start`; 0 if there is none. */
function contractionLength(text: Uint8Array, start: number, end: number): number {
  for (const letters of CONTRACTIONS) {
    const stop = start + 1 + letters.length;
    if (stop > end || text[start + 1] !== letters[0]) continue;
    if (letters.length === 1 || text[start + 2] === letters[1]) return 1 + letters.length;
  }
  return 0;
}
