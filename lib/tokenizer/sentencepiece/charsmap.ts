import { KotodamaError } from '../../errors.js';
import { characterLength, codePointAt } from '../utf8.js';

const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Rules are at most this many code points long; those of Unicode normalization have at most 18. */
const MAX_RULE_CODE_POINTS = 64;

/** A replacement has at most this many bytes, so that a hostile file cannot blow a text up. Unicode needs 33. */
const MAX_REPLACEMENT_BYTES = 768;

/** So many decoded replacements are kept. */
const MAX_DECODED = 65536;

/** So many bytes are tried for a list of characters; Unicode's rules need some hundred. */
const MAX_TRIES = 4096;

const NO_NODE = -1;

/**
 * The compiled character rules of a SentencePiece model (`NormalizerSpec.precompiled_charsmap`).
 *
 * Format: uint32 little-endian size of the trie in bytes, the trie, then NUL-terminated UTF-8 replacements. The trie
 * is a Darts-clone double array over UTF-8 bytes. Of a unit, bit 31 marks a leaf and the other bits of a leaf are its
 * value: where the replacement starts. In other units bits 0-7 are the label, bit 8 says that a leaf follows, and bits
 * 10-30, shifted left by 8 if bit 9 is set, are the offset. The place of a child is `offset XOR label`.
 *
 * Every index is checked against the array, so a damaged trie gives wrong rules at worst.
 */
export class Charsmap {
  private readonly trie: Uint32Array;
  private readonly texts: Uint8Array;
  /** Replacements that were decoded already, by their position in {@link texts}. */
  private readonly decoded = new Map<number, string>();

  /** @throws KotodamaError ERR_TOKENIZER if the sizes do not fit. */
  constructor(data: Uint8Array) {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const size = data.length >= 4 ? view.getUint32(0, true) : 0;
    if (size === 0 || size % 4 !== 0 || size + 4 >= data.length) {
      throw new KotodamaError('ERR_TOKENIZER', 'SentencePiece model: precompiled_charsmap is damaged', {
        expected: `a trie size divisible by 4 and below ${data.length - 4} bytes`,
        received: `${size}`,
      });
    }
    this.trie = new Uint32Array(size / 4);
    for (let i = 0; i < this.trie.length; i++) this.trie[i] = view.getUint32(4 + 4 * i, true);
    this.texts = data.subarray(4 + size);
  }

  /** Place under which the children of the root are found. */
  root(): number {
    return offsetOf(this.trie[0]!);
  }

  /**
   * Longest rule that matches `text` at byte `start`: `[replacement, byte behind the match]`, or undefined.
   *
   * @param text well-formed UTF-8
   * @param end where the text ends
   */
  longestMatch(text: Uint8Array, start: number, end: number): [string, number] | undefined {
    let position = start;
    let value = -1;
    let matched = start;
    this.childPlace = this.root();
    for (let count = 0; count < MAX_RULE_CODE_POINTS && position < end; count++) {
      const next = position + characterLength(text[position]!);
      const unit = this.followBytes(text, position, next);
      if (unit === NO_NODE) break;
      position = next;
      if ((this.trie[unit]! & 0x100) !== 0) {
        value = this.leafValue(this.childPlace);
        matched = position;
      }
    }
    return value < 0 ? undefined : [this.replacement(value), matched];
  }

  /** Replacement by the shortest rule that matches `text` at byte `start`; undefined if there is none. */
  shortestMatch(text: Uint8Array, start: number, end: number): string | undefined {
    this.childPlace = this.root();
    for (let position = start; position < end; position++) {
      const unit = this.step(text[position]!);
      if (unit === NO_NODE) return undefined;
      if ((this.trie[unit]! & 0x100) === 0) continue;
      const value = this.leafValue(this.childPlace);
      return value < 0 ? undefined : this.replacement(value);
    }
    return undefined;
  }

  /** Replacement of exactly `codePoint`; undefined if there is no such rule. */
  single(codePoint: number): string | undefined {
    const unit = this.follow(this.root(), codePoint);
    if (unit === NO_NODE || (this.trie[unit]! & 0x100) === 0) return undefined;
    const value = this.leafValue(this.childPlace);
    return value < 0 ? undefined : this.replacement(value);
  }

  /** Place of the children behind `codePoint` if a longer rule may start with it, otherwise -1. */
  continuation(codePoint: number): number {
    if (this.follow(this.root(), codePoint) === NO_NODE) return NO_NODE;
    const place = this.childPlace;
    for (let label = 1; label < 256; label++) {
      if (labelOf(this.at(place ^ label)) === label) return place;
    }
    return NO_NODE;
  }

  /** The characters with which some rule goes on at `place`; undefined when they are too many to look for. */
  charactersAt(place: number): number[] | undefined {
    const characters: number[] = [];
    let tries = 0;
    const walk = (at: number, bytes: readonly number[]) => {
      const lead = bytes[0];
      if (lead !== undefined && bytes.length === characterLength(lead)) {
        characters.push(codePointAt(Uint8Array.from(bytes), 0));
        return;
      }
      const [low, high] = lead === undefined ? [0x01, 0xff] : [0x80, 0xbf];
      for (let byte = low; byte <= high && tries <= MAX_TRIES; byte++) {
        tries++;
        this.childPlace = at;
        if (this.step(byte) !== NO_NODE) walk(this.childPlace, [...bytes, byte]);
      }
    };
    walk(place, []);
    return tries > MAX_TRIES ? undefined : characters;
  }

  /** Whether some rule goes on at `place` with the character of `text` at byte `start`. */
  continues(place: number, text: Uint8Array, start: number): boolean {
    this.childPlace = place;
    return this.followBytes(text, start, start + characterLength(text[start]!)) !== NO_NODE;
  }

  /** Place of the children of the unit that {@link follow} found last. */
  private childPlace = 0;

  /** Unit reached from `place` by the UTF-8 bytes of `codePoint`; -1 if there is none. */
  private follow(place: number, codePoint: number): number {
    this.childPlace = place;
    if (codePoint < 0x80) return this.step(codePoint);
    let unit: number;
    if (codePoint < 0x800) {
      unit = this.step(0xc0 | (codePoint >> 6));
    } else {
      if (codePoint < 0x10000) {
        unit = this.step(0xe0 | (codePoint >> 12));
      } else {
        unit = this.step(0xf0 | (codePoint >> 18));
        if (unit !== NO_NODE) unit = this.step(0x80 | ((codePoint >> 12) & 0x3f));
      }
      if (unit !== NO_NODE) unit = this.step(0x80 | ((codePoint >> 6) & 0x3f));
    }
    return unit === NO_NODE ? NO_NODE : this.step(0x80 | (codePoint & 0x3f));
  }

  /** Unit reached from {@link childPlace} by `text[start..end)`; -1 if there is none. */
  private followBytes(text: Uint8Array, start: number, end: number): number {
    let unit = NO_NODE;
    for (let i = start; i < end; i++) {
      unit = this.step(text[i]!);
      if (unit === NO_NODE) return NO_NODE;
    }
    return unit;
  }

  private step(byte: number): number {
    const index = this.childPlace ^ byte;
    const unit = this.at(index);
    if (labelOf(unit) !== byte || index >= this.trie.length) return NO_NODE;
    this.childPlace = index ^ offsetOf(unit);
    return index;
  }

  private leafValue(place: number): number {
    const value = this.at(place) & 0x7fffffff;
    return value < this.texts.length ? value : -1;
  }

  private at(index: number): number {
    return index < this.trie.length ? this.trie[index]! : 0;
  }

  private replacement(start: number): string {
    const known = this.decoded.get(start);
    if (known !== undefined) return known;
    const nul = this.texts.indexOf(0, start);
    const end = nul < 0 ? this.texts.length : nul;
    if (end - start > MAX_REPLACEMENT_BYTES) {
      throw new KotodamaError('ERR_TOKENIZER', 'SentencePiece model: a normalization rule has a too long result', {
        expected: `at most ${MAX_REPLACEMENT_BYTES} bytes`,
        received: `${end - start}`,
      });
    }
    const text = UTF8.decode(this.texts.subarray(start, end));
    if (this.decoded.size < MAX_DECODED) this.decoded.set(start, text);
    return text;
  }
}

function labelOf(unit: number): number {
  return (unit & 0x800000ff) >>> 0;
}

function offsetOf(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
}
