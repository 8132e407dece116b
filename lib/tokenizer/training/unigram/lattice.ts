import type { PieceTrie } from '../../sentencepiece/piece-trie.js';
import type { LaidWords } from './laid-words.js';

/** Numbers below this are made larger before they vanish: by {@link BOOST}, which is counted. */
const SMALL = 1e-100;
const BOOST = 1e100;

/** What the segmentations of all words tell. */
export interface Expectation {
  /** Sum of the logarithms of the words' probabilities, weighted by their counts. */
  logLikelihood: number;
}

/**
 * All segmentations of words into pieces, as lattices whose edges are pieces. Every character must be a piece.
 *
 * Forward-backward sums the segmentations of a word in time that is linear in its pieces (Kudo 2018, section 3.2, after
 * Baum). The sums are kept as they are, not as logarithms, with a common factor for those that are in use.
 */
export class Lattice {
  private readonly trie: PieceTrie;
  private readonly longest: number;

  // By position in a word: the sum over all ways to it, the factors that were in force there, its first edge.
  private forward = new Float64Array(0);
  private boosts = new Int32Array(0);
  private firstEdges = new Int32Array(0);
  private backward = new Float64Array(0);
  // Best way to a position: its score, its last piece and where that begins.
  private bestScores = new Float64Array(0);
  private bestPieces = new Int32Array(0);
  private bestStarts = new Int32Array(0);
  // Edges by position: where they end, and their pieces.
  private edgeEnds = new Int32Array(0);
  private edgePieces = new Int32Array(0);

  /** @param longest units of the longest piece */
  constructor(trie: PieceTrie, longest: number) {
    this.trie = trie;
    this.longest = longest;
  }

  /**
   * Adds to `expected` how often each piece occurs in all segmentations of all words, weighted by their probabilities.
   *
   * @param probabilities of the pieces, by id
   */
  expect(words: LaidWords, probabilities: Float64Array, expected: Float64Array): Expectation {
    let logLikelihood = 0;
    for (let word = 0; word < words.size; word++) {
      const count = words.counts[word]!;
      const start = words.starts[word]!;
      const length = words.starts[word + 1]! - 1 - start;
      this.reserve(length);
      const boosts = this.sumForward(words.units, start, length, probabilities);
      const all = this.forward[length]!;
      logLikelihood += count * (Math.log(all) - boosts * Math.log(BOOST));
      this.sumBackward(length, probabilities, expected, count / all, boosts);
    }
    return { logLikelihood };
  }

  /** Adds to `counts` how often each piece occurs in the best segmentations of all words. */
  countBest(words: LaidWords, scores: Float64Array, counts: Float64Array): void {
    for (let word = 0; word < words.size; word++) {
      const start = words.starts[word]!;
      const length = words.starts[word + 1]! - 1 - start;
      this.reserve(length);
      this.findBest(words.units, start, length, scores, length + 1);
      for (let end = length; end > 0; end = this.bestStarts[end]!)
        counts[this.bestPieces[end]!]! += words.counts[word]!;
    }
  }

  /**
   * The best segmentation of a text into two or more pieces: its score, or -Infinity if there is none. Its pieces are then
   * in `pieces`, last first.
   */
  bestParts(units: Uint16Array, length: number, scores: Float64Array, pieces: number[]): number {
    this.reserve(length);
    this.findBest(units, 0, length, scores, length);
    pieces.length = 0;
    const score = this.bestScores[length]!;
    if (score === Number.NEGATIVE_INFINITY) return score;
    for (let end = length; end > 0; end = this.bestStarts[end]!) pieces.push(this.bestPieces[end]!);
    return score;
  }

  /** @returns how often sums were boosted */
  private sumForward(units: Uint16Array, start: number, length: number, probabilities: Float64Array): number {
    const { trie, forward, boosts, firstEdges, edgeEnds, edgePieces } = this;
    forward.fill(0, 0, length + 1);
    forward[0] = 1;
    let boosted = 0;
    let edges = 0;
    for (let position = 0; position < length; position++) {
      firstEdges[position] = edges;
      if (forward[position]! < SMALL && this.boost(forward, position, Math.min(length, position + this.longest)))
        boosted++;
      boosts[position] = boosted;
      const here = forward[position]!;
      // A position inside a character.
      if (here === 0) continue;
      let node = trie.first[units[start + position]!]!;
      let end = position + 1;
      while (node !== 0) {
        const piece = trie.ids[node]!;
        if (piece >= 0) {
          forward[end]! += here * probabilities[piece]!;
          edgeEnds[edges] = end;
          edgePieces[edges++] = piece;
        }
        if (end === length) break;
        node = trie.child(node, units[start + end]!);
        end++;
      }
    }
    firstEdges[length] = edges;
    return boosted;
  }

  /**
   * @param weight count of the word, divided by the sum over all its segmentations
   * @param boosted how often that sum was boosted
   */
  private sumBackward(
    length: number,
    probabilities: Float64Array,
    expected: Float64Array,
    weight: number,
    boosted: number,
  ): void {
    const { forward, boosts, firstEdges, backward, edgeEnds, edgePieces } = this;
    backward[length] = 1;
    let boostedHere = 0;
    for (let position = length - 1; position >= 0; position--) {
      const surplus = boosted - boosts[position]! - boostedHere;
      const factor = forward[position]! * weight * (surplus === 0 ? 1 : BOOST ** surplus);
      let sum = 0;
      const last = firstEdges[position + 1]!;
      for (let edge = firstEdges[position]!; edge < last; edge++) {
        const piece = edgePieces[edge]!;
        const through = probabilities[piece]! * backward[edgeEnds[edge]!]!;
        sum += through;
        expected[piece]! += factor * through;
      }
      backward[position] = sum;
      if (sum < SMALL && this.boost(backward, position, Math.min(length, position + this.longest - 1))) boostedHere++;
    }
  }

  /** Multiplies the sums from one position to another if all are small. */
  private boost(sums: Float64Array, from: number, to: number): boolean {
    let largest = 0;
    for (let i = from; i <= to; i++) largest = Math.max(largest, sums[i]!);
    if (largest >= SMALL || largest === 0) return false;
    for (let i = from; i <= to; i++) sums[i]! *= BOOST;
    return true;
  }

  /** Viterbi's algorithm, with pieces of fewer than `limit` units; of equal ways the one found first wins. */
  private findBest(units: Uint16Array, start: number, length: number, scores: Float64Array, limit: number): void {
    const { trie, bestScores, bestPieces, bestStarts } = this;
    bestScores.fill(Number.NEGATIVE_INFINITY, 0, length + 1);
    bestScores[0] = 0;
    for (let position = 0; position < length; position++) {
      const here = bestScores[position]!;
      if (here === Number.NEGATIVE_INFINITY) continue;
      let node = trie.first[units[start + position]!]!;
      let end = position + 1;
      while (node !== 0) {
        const piece = trie.ids[node]!;
        if (piece >= 0 && end - position < limit && here + scores[piece]! > bestScores[end]!) {
          bestScores[end] = here + scores[piece]!;
          bestPieces[end] = piece;
          bestStarts[end] = position;
        }
        if (end === length) break;
        node = trie.child(node, units[start + end]!);
        end++;
      }
    }
  }

  private reserve(length: number): void {
    if (length < this.forward.length) return;
    const size = 2 * (length + 1);
    this.forward = new Float64Array(size);
    this.backward = new Float64Array(size);
    this.boosts = new Int32Array(size);
    this.firstEdges = new Int32Array(size);
    this.bestScores = new Float64Array(size);
    this.bestPieces = new Int32Array(size);
    this.bestStarts = new Int32Array(size);
    this.edgeEnds = new Int32Array(size * this.longest);
    this.edgePieces = new Int32Array(size * this.longest);
  }
}
