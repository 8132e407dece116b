import { BEGINS_WITH_WORD, ENDS_WITH_WORD } from '../word-characters.js';

/** A text that becomes one id. */
export interface AddedText {
  /** Not empty. */
  text: string;
  id: number;
  /** Whether it counts only where no letter, digit, mark or `_` is beside it. Default false. */
  singleWord?: boolean;
}

interface Added {
  bytes: Uint8Array;
  id: number;
  singleWord: boolean;
}

const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Bytes of the longest character. */
const LONGEST_CHARACTER = 4;

/** Texts that become one id wherever they stand, such as `<|endoftext|>`, or wherever they are a word. */
export class AddedTokens {
  /** Id and bytes of what {@link find} found. */
  id = 0;
  length = 0;
  /** By first byte, the longest first. */
  private readonly byFirst: (readonly Added[] | undefined)[] = new Array(256).fill(undefined);

  constructor(tokens: readonly AddedText[]) {
    const longestFirst = tokens.map(({ text, id, singleWord = false }) => ({
      bytes: Buffer.from(text),
      id,
      singleWord,
    }));
    longestFirst.sort((a, b) => b.bytes.length - a.bytes.length);
    for (const token of longestFirst) {
      const first = token.bytes[0]!;
      this.byFirst[first] = [...(this.byFirst[first] ?? []), token];
    }
  }

  /**
   * Where in `text[from..end)` the first of them begins, the longest one if there are several; `end` if there is none. What
   * it is stands in {@link id} and {@link length}.
   *
   * As in Python's tokenizers, one that would have to be a word and is none goes by as a whole: no other is looked for in it.
   *
   * @param start where the text began, of which `from` is a place behind what was found before
   */
  find(text: Uint8Array, from: number, end: number, start = from): number {
    for (let at = from; at < end; at++) {
      const candidates = this.byFirst[text[at]!];
      if (candidates === undefined) continue;
      const found = candidates.find(({ bytes }) => startsWith(text, at, end, bytes));
      if (found === undefined) continue;
      this.id = found.id;
      this.length = found.bytes.length;
      if (!found.singleWord || isWord(text, start, at, at + this.length, end)) return at;
      at += this.length - 1;
    }
    return end;
  }
}

function startsWith(text: Uint8Array, start: number, end: number, bytes: Uint8Array): boolean {
  return bytes.length <= end - start && bytes.every((byte, index) => text[start + index] === byte);
}

/** Whether what is beside `text[from..to)` within `text[start..end)` belongs to no word. */
function isWord(text: Uint8Array, start: number, from: number, to: number, end: number): boolean {
  // Characters that this cuts become U+FFFD, which is none of a word; the one that counts is whole.
  const before = UTF8.decode(text.subarray(Math.max(start, from - LONGEST_CHARACTER), from));
  const after = UTF8.decode(text.subarray(to, Math.min(end, to + LONGEST_CHARACTER)));
  return !ENDS_WITH_WORD.test(before) && !BEGINS_WITH_WORD.test(after);
}
