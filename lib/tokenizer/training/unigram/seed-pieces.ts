import { grown } from '../../arrays.js';
import { type LaidWords, SEPARATOR } from './laid-words.js';

/** A piece with the number of its occurrences. */
export interface Seed {
  text: string;
  count: number;
}

/** When there are so many times more than are wanted, the worst are forgotten. */
const SPARE = 4;

/** Up to so many suffixes are compared pair by pair. */
const FEW = 12;

const UTF16 = new TextDecoder('utf-16le', { ignoreBOM: true });

/**
 * The texts of two and more characters that occur twice or more and can be pieces: of those with count times length, the
 * highest come first. A text counts only where it is as long as it can be: if something always follows it, the longer text
 * stands for both (the inner nodes of a suffix tree; Kudo 2018, section 3.3).
 *
 * The suffixes of all words are sorted by their first `longest` units (multikey quicksort; Bentley and Sedgewick 1997), which
 * brings equal beginnings together. Takes 8 bytes for each unit of the words.
 */
export class SeedPieces {
  private readonly words: LaidWords;
  private readonly longest: number;
  private readonly most: number;
  /** Where suffixes begin. */
  private readonly suffixes: Int32Array;
  private readonly wordOf: Int32Array;

  // What was found: where it occurs once, its length, its count.
  private size = 0;
  private places = new Int32Array(2 ** 12);
  private lengths = new Int32Array(2 ** 12);
  private counts = new Float64Array(2 ** 12);

  /**
   * @param longest length of the longest piece, in UTF-16 units
   * @param most number of texts wanted
   */
  constructor(words: LaidWords, longest: number, most: number) {
    this.words = words;
    this.longest = longest;
    this.most = most;
    this.wordOf = new Int32Array(words.units.length);
    this.suffixes = this.sortByFirstUnit();
  }

  find(): Seed[] {
    const { units } = this.words;
    for (let start = 0; start < this.suffixes.length; ) {
      const unit = units[this.suffixes[start]!]!;
      let end = start;
      while (end < this.suffixes.length && units[this.suffixes[end]!] === unit) end++;
      this.findIn(start, end, 1);
      start = end;
    }
    this.forgetWorst();
    const order = Int32Array.from({ length: this.size }, (_, index) => index);
    order.sort((a, b) => this.scoreOf(b) - this.scoreOf(a) || a - b);
    return Array.from(order, (index) => {
      const start = this.places[index]!;
      return { text: UTF16.decode(units.subarray(start, start + this.lengths[index]!)), count: this.counts[index]! };
    });
  }

  /** A counting sort. Second halves of surrogate pairs begin no suffix. */
  private sortByFirstUnit(): Int32Array {
    const { units, starts, size } = this.words;
    const ends = new Int32Array(65537);
    const begins = (unit: number) => unit !== SEPARATOR && (unit & 0xfc00) !== 0xdc00;
    let count = 0;
    for (const unit of units) {
      if (!begins(unit)) continue;
      ends[unit + 1]! += 1;
      count++;
    }
    for (let unit = 0; unit < 65536; unit++) ends[unit + 1]! += ends[unit]!;
    const sorted = new Int32Array(count);
    for (let word = 0; word < size; word++) {
      for (let at = starts[word]!; at < starts[word + 1]! - 1; at++) {
        this.wordOf[at] = word;
        if (begins(units[at]!)) sorted[ends[units[at]!]!++] = at;
      }
    }
    return sorted;
  }

  /**
   * Finds the texts that the suffixes from `start` to below `end` begin with; all of them share `depth` units.
   *
   * @returns how often their common beginning occurs
   */
  private findIn(start: number, end: number, depth: number): number {
    if (end - start === 1) return this.findInOne(start, depth);
    if (depth === this.longest) return this.findLongest(start, end);
    this.sort(start, end, depth);
    let all = 0;
    let most = 0;
    for (let from = start; from < end; ) {
      const unit = this.unitAt(from, depth);
      let to = from + 1;
      while (to < end && this.unitAt(to, depth) === unit) to++;
      let count = 0;
      if (unit === SEPARATOR) for (let i = from; i < to; i++) count += this.countOf(i);
      else {
        count = this.findIn(from, to, depth + 1);
        most = Math.max(most, count);
      }
      all += count;
      from = to;
    }
    if (most < all) this.note(start, depth, all);
    return all;
  }

  /** A single suffix: its word may occur often. */
  private findInOne(index: number, depth: number): number {
    let length = depth;
    while (length <= this.longest && this.unitAt(index, length) !== SEPARATOR) length++;
    const count = this.countOf(index);
    if (length <= this.longest) this.note(index, length, count);
    return count;
  }

  /** Suffixes that are equal as far as it matters: they make a piece unless the same follows all of them. */
  private findLongest(start: number, end: number): number {
    let count = 0;
    let differs = this.unitAt(start, this.longest) === SEPARATOR;
    for (let i = start; i < end; i++) {
      count += this.countOf(i);
      differs ||= this.unitAt(i, this.longest) !== this.unitAt(start, this.longest);
    }
    if (differs) this.note(start, this.longest, count);
    return count;
  }

  private note(index: number, length: number, count: number): void {
    const start = this.suffixes[index]!;
    const last = this.words.units[start + length - 1]!;
    const isOneCharacter = length === 1 || (length === 2 && (last & 0xfc00) === 0xdc00);
    if (count < 2 || isOneCharacter || (last & 0xfc00) === 0xd800) return;
    if (this.size === SPARE * this.most) this.forgetWorst();
    if (this.size === this.places.length) {
      this.places = grown(this.places, 2 * this.size);
      this.lengths = grown(this.lengths, 2 * this.size);
      this.counts = grown(this.counts, 2 * this.size);
    }
    this.places[this.size] = start;
    this.lengths[this.size] = length;
    this.counts[this.size++] = count;
  }

  /** Keeps as many as are wanted; of equally good ones those that were found first. */
  private forgetWorst(): void {
    if (this.size <= this.most) return;
    const scores = Float64Array.from({ length: this.size }, (_, index) => this.scoreOf(index)).sort();
    const least = scores[this.size - this.most]!;
    let ties = this.most;
    for (const score of scores) if (score > least) ties--;
    let kept = 0;
    for (let index = 0; index < this.size; index++) {
      const score = this.scoreOf(index);
      if (score < least || (score === least && ties-- <= 0)) continue;
      this.places[kept] = this.places[index]!;
      this.lengths[kept] = this.lengths[index]!;
      this.counts[kept++] = this.counts[index]!;
    }
    this.size = kept;
  }

  private scoreOf(index: number): number {
    return this.counts[index]! * this.lengths[index]!;
  }

  private countOf(index: number): number {
    return this.words.counts[this.wordOf[this.suffixes[index]!]!]!;
  }

  private unitAt(index: number, depth: number): number {
    return this.words.units[this.suffixes[index]! + depth]!;
  }

  /** Sorts the suffixes from `start` to below `end` by the unit at `depth`. */
  private sort(start: number, end: number, depth: number): void {
    const { suffixes } = this;
    let from = start;
    let to = end;
    while (to - from > FEW) {
      const pivot = this.median(from, to, depth);
      let less = from;
      let greater = to;
      for (let i = from; i < greater; ) {
        const unit = this.unitAt(i, depth);
        if (unit === pivot) i++;
        else {
          const other = unit < pivot ? less++ : --greater;
          const suffix = suffixes[i]!;
          suffixes[i] = suffixes[other]!;
          suffixes[other] = suffix;
          if (unit < pivot) i++;
        }
      }
      // The smaller part first, so that the calls cannot pile up.
      if (less - from < to - greater) {
        this.sort(from, less, depth);
        from = greater;
      } else {
        this.sort(greater, to, depth);
        to = less;
      }
    }
    for (let i = from + 1; i < to; i++) {
      const suffix = suffixes[i]!;
      const unit = this.words.units[suffix + depth]!;
      let j = i;
      for (; j > from && this.unitAt(j - 1, depth) > unit; j--) suffixes[j] = suffixes[j - 1]!;
      suffixes[j] = suffix;
    }
  }

  private median(from: number, to: number, depth: number): number {
    const a = this.unitAt(from, depth);
    const b = this.unitAt((from + to) >> 1, depth);
    const c = this.unitAt(to - 1, depth);
    return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
  }
}
