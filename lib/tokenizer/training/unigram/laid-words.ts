import { characterLength, codePointAt } from '../../utf8.js';
import type { WordCounts } from '../word-counts.js';

/** Stands between words, which never hold it. */
export const SEPARATOR = 0;

/** A character and how often it occurs. */
export interface CountedCharacter {
  character: string;
  count: number;
}

/** Words with their counts, as one text of UTF-16 units. */
export interface LaidWords {
  /** The words, with a {@link SEPARATOR} before the first and after each. */
  units: Uint16Array;
  /** Where each word begins; after the last one, where the next would begin. Word `i` ends before `starts[i + 1] - 1`. */
  starts: Int32Array;
  counts: Float64Array;
  size: number;
}

/**
 * The most frequent characters, which together make up the share `coverage` of the text; of equally frequent ones the lowest
 * code point first.
 */
export function frequentCharacters(words: WordCounts, coverage: number): CountedCharacter[] {
  const counts = new Float64Array(0x110000);
  let all = 0;
  for (let word = 0; word < words.size; word++) {
    const end = words.starts[word + 1]!;
    for (let at = words.starts[word]!; at < end; at += characterLength(words.bytes[at]!)) {
      counts[codePointAt(words.bytes, at)]! += words.counts[word]!;
      all += words.counts[word]!;
    }
  }
  const present: number[] = [];
  for (const [codePoint, count] of counts.entries()) if (count > 0) present.push(codePoint);
  present.sort((a, b) => counts[b]! - counts[a]! || a - b);
  const chosen: CountedCharacter[] = [];
  let covered = 0;
  for (const codePoint of present) {
    if (coverage < 1 && covered >= coverage * all) break;
    covered += counts[codePoint]!;
    chosen.push({ character: String.fromCodePoint(codePoint), count: counts[codePoint]! });
  }
  return chosen;
}

/** Lays the words out. Where they hold other characters than these they are cut, since no piece holds them. */
export function layWords(words: WordCounts, characters: readonly CountedCharacter[]): LaidWords {
  const isKnown = new Uint8Array(0x110000);
  for (const { character } of characters) isKnown[character.codePointAt(0)!] = 1;
  // A byte makes at most one unit, and a word of n bytes at most n words.
  const units = new Uint16Array(words.byteLength + words.size + 1);
  const starts: number[] = [];
  const counts: number[] = [];
  let used = 1;
  for (let word = 0; word < words.size; word++) {
    const end = words.starts[word + 1]!;
    let start = used;
    const close = () => {
      if (used === start) return;
      starts.push(start);
      counts.push(words.counts[word]!);
      units[used++] = SEPARATOR;
      start = used;
    };
    for (let at = words.starts[word]!; at < end; at += characterLength(words.bytes[at]!)) {
      const codePoint = codePointAt(words.bytes, at);
      if (isKnown[codePoint] === 0) close();
      else if (codePoint < 0x10000) units[used++] = codePoint;
      else {
        units[used++] = 0xd7c0 + (codePoint >> 10);
        units[used++] = 0xdc00 | (codePoint & 0x3ff);
      }
    }
    close();
  }
  starts.push(used);
  return {
    units: units.slice(0, used),
    starts: Int32Array.from(starts),
    counts: Float64Array.from(counts),
    size: counts.length,
  };
}
