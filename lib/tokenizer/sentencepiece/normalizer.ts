import { KotodamaError } from '../../errors.js';
import { characterLength, codePointAt } from '../utf8.js';
import { Utf8Scratch } from '../utf8-scratch.js';
import { Charsmap } from './charsmap.js';
import type { NormalizerSpec } from './model-proto.js';
import type { PieceTrie } from './piece-trie.js';

/** U+2581, which stands for a space in pieces. */
export const SPACE_SYMBOL = 0x2581;

const SPACE = 0x20;

/** Longest normalized text in UTF-16 units. Encoding takes about 10 bytes for each (unigram), or 60 (BPE). */
const MAX_UNITS = 2 ** 26;

/** Scratch memory above this many units is given back after use. */
const KEPT_UNITS = 2 ** 21;

/** Stands for all characters that UTF-16 needs two units for. */
const SURROGATE = 0xd800;

const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });
const UTF16 = new TextDecoder('utf-16le', { ignoreBOM: true });

// What the table knows of a UTF-16 unit. Numbers from `replaced` on are places in the list of replacements.
const unseen = 0;
const copied = 1;
const general = 2;
const replaced = 3;

/**
 * Text normalization as `normalizer::Normalizer` of SentencePiece does it: character rules with the longest match
 * first, user-defined symbols left alone, extra spaces removed, a dummy space added, spaces written as U+2581.
 *
 * The result lies in {@link units} until the next call. Time and memory are linear in the text.
 */
export class Normalizer {
  /** UTF-16 units of the last result, well-formed; only the first `normalize(...)` ones count. */
  units = new Uint16Array(1024);

  private readonly charsmap: Charsmap | undefined;
  /**
   * What each unit becomes by itself if that is one unit and no space. 0 for others, for those not seen yet, and for those
   * that may be the second character of a rule. A small table of its own, since every character asks it.
   */
  private readonly becomes = new Uint16Array(65536);
  /** 1 for units that may be the second character of a rule, as far as first ones were seen. */
  private readonly isSecond = new Uint8Array(65536);
  /** Whether spaces are subject to no rules but those of spaces. */
  private readonly isPlainSpace: boolean;
  private readonly actions = new Uint32Array(65536);
  private readonly continuations = new Int32Array(65536);
  private readonly replacements: string[] = [];
  /** Byte behind what {@link prefix} consumed. */
  private next = 0;

  /**
   * @param spec rules and whitespace handling
   * @param symbols user-defined symbols, which the rules do not touch
   * @param spaceAsSuffix whether the dummy space comes last instead of first
   */
  constructor(
    private readonly spec: NormalizerSpec,
    private readonly symbols: PieceTrie | undefined,
    private readonly spaceAsSuffix: boolean,
  ) {
    if (spec.charsmap.length > 0) this.charsmap = new Charsmap(spec.charsmap);
    const action = this.classify(SPACE);
    this.isPlainSpace = action === general && !this.startsSymbol(SPACE) && this.continuations[SPACE]! < 0;
  }

  /**
   * Normalizes `text[start..end)` into {@link units} and returns their number.
   *
   * @param text well-formed UTF-8
   */
  normalize(text: Uint8Array, start: number, end: number): number {
    const { addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces } = this.spec;
    const space = escapeWhitespaces ? SPACE_SYMBOL : SPACE;
    const { becomes } = this;
    let position = start;
    if (removeExtraWhitespaces) {
      while (position < end && this.prefix(text, position, end) === ' ') position = this.next;
    }
    if (position === end) return 0;
    if (this.units.length > KEPT_UNITS) this.units = new Uint16Array(1024);
    // At most one unit for each byte, unless a rule makes more of it.
    this.reserve(Math.min(end - position + 2, MAX_UNITS));
    let units = this.units;
    let count = 0;
    if (addDummyPrefix && !this.spaceAsSuffix) units[count++] = space;
    /** Byte behind the last space, where more of them are left out. */
    let spaceEnd = removeExtraWhitespaces ? position : -1;
    /** No character before this byte is taken back. */
    let settled = position;
    while (position < end) {
      const lead = text[position]!;
      let unit = lead;
      let next = position + 1;
      if (lead >= 0x80) {
        if (lead < 0xe0) {
          unit = ((lead & 0x1f) << 6) | (text[next++]! & 0x3f);
        } else if (lead < 0xf0) {
          unit = ((lead & 0x0f) << 12) | ((text[next]! & 0x3f) << 6) | (text[next + 1]! & 0x3f);
          next += 2;
        } else {
          unit = SURROGATE;
        }
      }
      // The hot case. Whether a rule of several characters begins here is asked only when a second one of some rule follows.
      const becoming = becomes[unit]!;
      if (becoming !== 0 && count < units.length) {
        units[count++] = becoming;
        position = next;
        continue;
      }
      if (position > settled) {
        settled = position;
        const before = previousCharacter(text, position);
        if (this.mayContinue(codePointAt(text, before), text, position, end)) {
          position = before;
          count--;
        }
      }
      if (unit === SPACE && this.isPlainSpace && text[position] === SPACE && count < units.length) {
        if (position !== spaceEnd) units[count++] = space;
        position = next;
        if (removeExtraWhitespaces) spaceEnd = position;
        settled = position;
        continue;
      }
      const piece = this.prefix(text, position, end);
      this.reserve(count + piece.length + 1);
      units = this.units;
      let skipped = 0;
      if (position === spaceEnd) while (skipped < piece.length && piece.charCodeAt(skipped) === SPACE) skipped++;
      for (let i = skipped; i < piece.length; i++) {
        const code = piece.charCodeAt(i);
        units[count++] = code === SPACE ? space : code;
      }
      const endsInSpace =
        skipped === piece.length ? position === spaceEnd : piece.charCodeAt(piece.length - 1) === SPACE;
      position = this.next;
      settled = position;
      if (removeExtraWhitespaces && endsInSpace) spaceEnd = position;
    }
    if (removeExtraWhitespaces) while (count > 0 && units[count - 1] === space) count--;
    if (addDummyPrefix && this.spaceAsSuffix) {
      this.reserve(count + 1);
      this.units[count++] = space;
    }
    return count;
  }

  /** A string normalized, as a string. Lone surrogates count as U+FFFD. */
  normalizeToString(text: string): string {
    const scratch = new Utf8Scratch();
    const end = scratch.write(text);
    const count = this.normalize(scratch.bytes, 0, end);
    return UTF16.decode(this.units.subarray(0, count));
  }

  /** What the start of `text` from `position` on becomes; sets {@link next}. */
  private prefix(text: Uint8Array, position: number, end: number): string {
    const codePoint = codePointAt(text, position);
    const next = position + characterLength(text[position]!);
    const unit = codePoint > 0xffff ? SURROGATE : codePoint;
    let action = this.actions[unit]!;
    if (action === unseen) action = this.classify(unit);
    if (action !== general && !this.mayContinue(unit, text, next, end)) {
      this.next = next;
      return action === copied ? String.fromCharCode(unit) : this.replacements[action - replaced]!;
    }
    const symbol = this.symbolAt(text, position, end);
    if (symbol > position) {
      this.next = symbol;
      return UTF8.decode(text.subarray(position, symbol));
    }
    const match = this.charsmap?.longestMatch(text, position, end);
    if (match !== undefined) {
      this.next = match[1];
      return match[0];
    }
    this.next = next;
    return String.fromCodePoint(codePoint);
  }

  /** Whether some rule may match `unit` and the character of `text` at `next`. */
  private mayContinue(unit: number, text: Uint8Array, next: number, end: number): boolean {
    const place = this.continuations[unit]!;
    return place >= 0 && next < end && this.charsmap!.continues(place, text, next);
  }

  /** End of the user-defined symbol at `position`; `position` if there is none. */
  private symbolAt(text: Uint8Array, position: number, end: number): number {
    const trie = this.symbols;
    if (trie === undefined) return position;
    let longest = position;
    let node = trie.root;
    for (let at = position; at < end && node !== 0; ) {
      const codePoint = codePointAt(text, at);
      at += characterLength(text[at]!);
      if (codePoint <= 0xffff) node = trie.step(node, codePoint);
      else {
        node = trie.step(node, 0xd7c0 + (codePoint >> 10));
        if (node !== 0) node = trie.child(node, 0xdc00 | (codePoint & 0x3ff));
      }
      if (node !== 0 && trie.ids[node]! >= 0) longest = at;
    }
    return longest;
  }

  /** Fills the table for one unit. Spaces, surrogates and starts of user-defined symbols take the general way. */
  private classify(unit: number): number {
    let action = general;
    let place = -1;
    if ((unit & 0xf800) !== 0xd800 && !this.startsSymbol(unit)) {
      const replacement = this.charsmap?.single(unit);
      if (replacement !== undefined) {
        action = replaced + this.replacements.length;
        this.replacements.push(replacement);
      } else if (unit !== SPACE) {
        action = copied;
      }
      place = this.charsmap?.continuation(unit) ?? -1;
    }
    this.continuations[unit] = place;
    this.actions[unit] = action;
    if (place >= 0) this.noteSeconds(place);
    if (this.isSecond[unit] === 0) {
      const replacement = action === copied ? String.fromCharCode(unit) : (this.replacements[action - replaced] ?? '');
      const isLast = place < 0 || action === copied;
      if (isLast && replacement.length === 1 && replacement !== ' ') this.becomes[unit] = replacement.charCodeAt(0);
    }
    return action;
  }

  /** Notes with which characters a rule goes on at a place. Those beyond 16 bits never take the short way. */
  private noteSeconds(place: number): void {
    const seconds = this.charsmap!.charactersAt(place);
    if (seconds === undefined) {
      this.isSecond.fill(1);
      this.becomes.fill(0);
      return;
    }
    for (const second of seconds) {
      this.isSecond[second] = 1;
      this.becomes[second] = 0;
    }
  }

  private startsSymbol(unit: number): boolean {
    return this.symbols !== undefined && this.symbols.first[unit] !== 0;
  }

  private reserve(count: number): void {
    if (count <= this.units.length) return;
    if (count > MAX_UNITS) {
      throw new KotodamaError('ERR_DATA', 'a text is too long to be tokenized at once', {
        expected: `at most ${MAX_UNITS} UTF-16 units after normalization`,
        received: `${count} or more`,
        hint: 'cut the text into lines',
      });
    }
    const grown = new Uint16Array(Math.max(count, 2 * this.units.length));
    grown.set(this.units);
    this.units = grown;
  }
}

/** Where the character before `position` begins in well-formed UTF-8. */
function previousCharacter(text: Uint8Array, position: number): number {
  let start = position - 1;
  while ((text[start]! & 0xc0) === 0x80) start--;
  return start;
}
