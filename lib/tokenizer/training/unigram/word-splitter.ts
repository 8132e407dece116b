import type { TextVisitor } from '../../../data/sources/read-chunk.js';
import { type Normalizer, SPACE_SYMBOL } from '../../sentencepiece/normalizer.js';
import { Utf8Scratch } from '../../utf8-scratch.js';
import { WordCounts } from '../word-counts.js';
import { ANY_SCRIPT, Scripts } from './scripts.js';

/** Longer words, in UTF-16 units, are cut: no piece reaches that far, and a text without a break is one word otherwise. */
const LONGEST_WORD = 512;

const NOT_YET = -128;

/**
 * Normalizes texts and counts their words. No piece may hold a space anywhere but at its beginning, or characters of two
 * scripts, so texts are cut at all such places beforehand: the model cannot tell the difference, and words repeat where
 * texts do not.
 */
export class WordSplitter implements TextVisitor {
  readonly words: WordCounts;
  /** Bytes of the texts so far. */
  bytes = 0;
  private readonly normalizer: Normalizer;
  private readonly scripts = new Scripts();
  /** Scripts of the characters that are one UTF-16 unit. */
  private readonly scriptOfUnit = new Int16Array(65536).fill(NOT_YET);
  private readonly scratch = new Utf8Scratch();
  private readonly word = new Uint8Array(3 * (LONGEST_WORD + 2));

  constructor(normalizer: Normalizer, words = new WordCounts()) {
    this.normalizer = normalizer;
    this.words = words;
  }

  /** Lone surrogates count as U+FFFD. */
  text(text: string): void {
    const end = this.scratch.write(text);
    this.utf8(this.scratch.bytes, 0, end);
  }

  utf8(bytes: Uint8Array, start: number, end: number): void {
    this.bytes += end - start;
    const count = this.normalizer.normalize(bytes, start, end);
    const { units } = this.normalizer;
    let first = 0;
    let script = ANY_SCRIPT;
    for (let i = 0; i < count; ) {
      const unit = units[i]!;
      const next = i + ((unit & 0xfc00) === 0xd800 ? 2 : 1);
      let its = ANY_SCRIPT;
      let cut = i - first >= LONGEST_WORD;
      if (unit === SPACE_SYMBOL || unit === 0) cut = true;
      else {
        its = this.scriptAt(units, i);
        if (its === ANY_SCRIPT) its = script;
        else if (script !== ANY_SCRIPT && its !== script) cut = true;
      }
      if (cut) {
        this.add(units, first, i);
        // NUL stands between words later on, and is in none.
        first = unit === 0 ? next : i;
      }
      script = its;
      i = next;
    }
    this.add(units, first, count);
  }

  private scriptAt(units: Uint16Array, index: number): number {
    const unit = units[index]!;
    if ((unit & 0xfc00) === 0xd800) {
      return this.scripts.of(0x10000 + ((unit & 0x3ff) << 10) + (units[index + 1]! & 0x3ff));
    }
    let script = this.scriptOfUnit[unit]!;
    if (script === NOT_YET) {
      script = this.scripts.of(unit);
      this.scriptOfUnit[unit] = script;
    }
    return script;
  }

  private add(units: Uint16Array, start: number, end: number): void {
    if (start >= end) return;
    const { word } = this;
    let length = 0;
    for (let i = start; i < end; i++) {
      const unit = units[i]!;
      if (unit < 0x80) word[length++] = unit;
      else if (unit < 0x800) {
        word[length++] = 0xc0 | (unit >> 6);
        word[length++] = 0x80 | (unit & 0x3f);
      } else if ((unit & 0xfc00) === 0xd800) {
        const codePoint = 0x10000 + ((unit & 0x3ff) << 10) + (units[++i]! & 0x3ff);
        word[length++] = 0xf0 | (codePoint >> 18);
        word[length++] = 0x80 | ((codePoint >> 12) & 0x3f);
        word[length++] = 0x80 | ((codePoint >> 6) & 0x3f);
        word[length++] = 0x80 | (codePoint & 0x3f);
      } else {
        word[length++] = 0xe0 | (unit >> 12);
        word[length++] = 0x80 | ((unit >> 6) & 0x3f);
        word[length++] = 0x80 | (unit & 0x3f);
      }
    }
    this.words.add(word, 0, length);
  }
}
