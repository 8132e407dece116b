import { digamma } from './digamma.js';
import type { CountedCharacter, LaidWords } from './laid-words.js';
import type { Lattice } from './lattice.js';
import { latticeOf, PieceCounter } from './piece-counter.js';
import { SeedPieces } from './seed-pieces.js';

/** What {@link learnUnigram} is told. */
export interface UnigramOptions {
  /** Pieces wanted, the characters included. */
  size: number;
  /** UTF-16 units of the longest piece. Default 16, as SentencePiece has it. */
  longest?: number;
  /** Pieces to begin with. Default 1,000,000, as SentencePiece has it. */
  seeds?: number;
  /** Hears how many pieces are left. */
  onProgress?: (pieces: number) => void;
}

/** A piece with the logarithm of its probability. */
export interface ScoredPiece {
  text: string;
  score: number;
}

/** Steps of expectation and maximization between two prunings. */
const STEPS = 2;

/** Share of the pieces that a pruning keeps, */
const KEPT = 0.75;

/** until there are so many times more than are wanted; the last ones go by their scores. */
const SURPLUS = 1.1;

/** A piece that is expected less often does not stay, unless it is a character. */
const LEAST_EXPECTED = 0.5;

/**
 * Learns the pieces of a unigram language model (Kudo 2018, "Subword regularization", section 3.3): begin with many texts
 * that repeat; estimate their probabilities by expectation maximization; leave out those whose loss costs the likelihood
 * least; and so on. The estimates are made sparse by the digamma function (variational Bayes with a Dirichlet prior;
 * SentencePiece does the same).
 *
 * The same words in the same order give the same pieces, the likeliest first.
 *
 * @param characters all characters of the words
 */
export async function learnUnigram(
  words: LaidWords,
  characters: readonly CountedCharacter[],
  { size, longest = 16, seeds = 1_000_000, onProgress }: UnigramOptions,
): Promise<ScoredPiece[]> {
  const found = new SeedPieces(words, longest, seeds).find();
  const singles = characters.map(({ character, count }) => ({ text: character, weight: count }));
  const all = [...singles, ...found.map(({ text, count }) => ({ text, weight: count * text.length }))];
  const sum = all.reduce((total, { weight }) => total + weight, 0);
  let model = new Model(
    all.map(({ text }) => text),
    Float64Array.from(all, ({ weight }) => Math.log(weight / sum)),
    singles.length,
    longest,
  );
  const target = Math.max(size, singles.length);
  const counter = new PieceCounter(words, longest);
  try {
    for (;;) {
      for (let step = 0; step < STEPS; step++) {
        onProgress?.(model.texts.length);
        model = await model.maximized(counter);
      }
      if (model.texts.length <= SURPLUS * target) return model.best(target);
      const kept = Math.max(Math.floor(SURPLUS * target), Math.floor(KEPT * model.texts.length));
      model = await model.pruned(counter, kept);
    }
  } finally {
    await counter.close();
  }
}

/** Pieces with their scores. The first `singles` ones are the characters, which always stay. */
class Model {
  readonly texts: readonly string[];
  private readonly scores: Float64Array;
  private readonly singles: number;
  private readonly longest: number;
  private made: Lattice | undefined;

  constructor(texts: readonly string[], scores: Float64Array, singles: number, longest: number) {
    this.texts = texts;
    this.scores = scores;
    this.singles = singles;
    this.longest = longest;
  }

  /** Made when it is needed first, since a second thread can make its own meanwhile. */
  private get lattice(): Lattice {
    this.made ??= latticeOf(this.texts, this.longest);
    return this.made;
  }

  /** One step of expectation maximization. */
  async maximized(counter: PieceCounter): Promise<Model> {
    const expected = await counter.count('expected', this.texts, this.scores, () => this.lattice);
    const kept: number[] = [];
    let sum = 0;
    for (let id = 0; id < expected.length; id++) {
      if (id < this.singles) expected[id] = Math.max(expected[id]!, LEAST_EXPECTED);
      else if (expected[id]! < LEAST_EXPECTED) continue;
      kept.push(id);
      sum += expected[id]!;
    }
    const whole = digamma(sum);
    return this.with(kept, (id) => digamma(expected[id]!) - whole);
  }

  /** Without the pieces that are needed least; `size` stay, if there are so many good ones. */
  async pruned(counter: PieceCounter, size: number): Promise<Model> {
    const counts = await counter.count('best', this.texts, this.scores, () => this.lattice);
    const sum = counts.reduce((total, count) => total + count, 0);
    const kept = Array.from({ length: this.singles }, (_, id) => id);
    const candidates: { id: number; loss: number }[] = [];
    const units = new Uint16Array(this.longest);
    const parts: number[] = [];
    for (let id = this.singles; id < this.texts.length; id++) {
      const count = counts[id]!;
      const text = this.texts[id]!;
      if (count === 0) continue;
      for (let i = 0; i < text.length; i++) units[i] = text.charCodeAt(i);
      // Of a piece that is not its own best segmentation nothing is lost.
      if (this.lattice.bestParts(units, text.length, this.scores, parts) > this.scores[id]!) continue;
      candidates.push({ id, loss: lossOf(count, counts, parts, sum) });
    }
    candidates.sort((a, b) => b.loss - a.loss || a.id - b.id);
    for (const { id } of candidates.slice(0, Math.max(0, size - this.singles))) kept.push(id);
    kept.sort((a, b) => a - b);
    return this.with(kept, (id) => this.scores[id]!);
  }

  /** The characters and the likeliest others, `size` together, the likeliest first. */
  best(size: number): ScoredPiece[] {
    const byScore = (a: ScoredPiece, b: ScoredPiece) => b.score - a.score || (a.text < b.text ? -1 : 1);
    const all = this.texts.map((text, id) => ({ text, score: this.scores[id]! }));
    const others = all.slice(this.singles).sort(byScore);
    return [...all.slice(0, this.singles), ...others.slice(0, Math.max(0, size - this.singles))].sort(byScore);
  }

  /** A model with these pieces, in order. */
  private with(ids: readonly number[], scoreOf: (id: number) => number): Model {
    const texts = ids.map((id) => this.texts[id]!);
    return new Model(texts, Float64Array.from(ids, scoreOf), this.singles, this.longest);
  }
}

/**
 * How much smaller the likelihood becomes without a piece, whose occurrences become those of its parts (Kudo 2018, section
 * 3.3, step 2b, with the approximation of SentencePiece).
 */
function lossOf(count: number, counts: Float64Array, parts: readonly number[], sum: number): number {
  const sumAfter = Math.log(sum + count * (parts.length - 1));
  const withParts = parts.reduce((total, part) => total + Math.log(counts[part]! + count) - sumAfter, 0);
  return count * (Math.log(count) - Math.log(sum) - withParts);
}
