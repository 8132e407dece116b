import type { AddedToken } from '../check-tokenizer-json.js';
import { BEGINS_WITH_WORD, ENDS_WITH_WORD } from '../word-characters.js';
import { textPattern } from './library.js';

/** An added token, or the text before, between and behind such, which begins at `start`. */
export type Section = { id: number } | { text: string; start: number };

/** Looks for added tokens in a text, the leftmost first and of those that begin there the longest. */
export class AddedSplitter {
  private readonly byText: ReadonlyMap<string, AddedToken>;
  private readonly pattern: RegExp;

  /** @param tokens with the texts that are looked for */
  constructor(tokens: readonly (readonly [text: string, token: AddedToken])[]) {
    this.byText = new Map(tokens);
    const longestFirst = [...this.byText.keys()].sort((a, b) => b.length - a.length);
    this.pattern = textPattern(longestFirst);
  }

  split(text: string): Section[] {
    const sections: Section[] = [];
    let from = 0;
    for (const { index, 0: found } of text.matchAll(this.pattern)) {
      const token = this.byText.get(found)!;
      let start = index;
      let end = start + found.length;
      if (token.single_word === true && !isWord(text, start, end)) continue;
      // White space beside the token may belong to it, unless the one before has taken it.
      if (token.lstrip === true) while (start > from && isWhite(text, start - 1)) start--;
      if (token.lstrip === true) start = Math.max(start, from);
      if (token.rstrip === true) while (end < text.length && isWhite(text, end)) end++;
      // It is white space itself, and taken.
      if (start >= end) continue;
      if (start > from) sections.push({ text: text.slice(from, start), start: from });
      sections.push({ id: token.id });
      from = end;
    }
    if (from < text.length) sections.push({ text: text.slice(from), start: from });
    return sections;
  }
}

/** Whether what is beside `text[start..end)` belongs to no word. */
function isWord(text: string, start: number, end: number): boolean {
  const before = text.slice(Math.max(0, start - 2), start);
  const after = text.slice(end, end + 2);
  return !ENDS_WITH_WORD.test(before) && !BEGINS_WITH_WORD.test(after);
}

/** White space is all in single units. */
function isWhite(text: string, index: number): boolean {
  return /\p{White_Space}/u.test(text[index]!);
}
