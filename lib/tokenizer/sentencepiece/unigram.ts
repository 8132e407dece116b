import { type ModelProto, PieceType } from './model-proto.js';
import { buildAutomaton, type PieceAutomaton } from './piece-automaton.js';
import { PieceTrie } from './piece-trie.js';
import type { PieceOutput, Segmenter } from './segmenter.js';

/** An unknown character scores this much less than the worst piece (kUnkPenalty). */
const UNK_PENALTY = 10;

/** FLT_MIN, from which SentencePiece starts to look for the best score: scores are negative, so it usually stays. */
const FLT_MIN = 2 ** -126;
const FLT_MAX = (2 - 2 ** -23) * 2 ** 127;

/** Room for longer texts than this is given back after use. */
const KEPT_UNITS = 2 ** 21;

/** A unigram model as a {@link UnigramSegmenter} needs it. Survives `structuredClone`. */
export interface UnigramTables {
  automaton: PieceAutomaton;
  /** Score of an unknown character, float32. */
  unkScore: number;
  unkId: number;
}

/** @throws KotodamaError ERR_TOKENIZER for pieces made to take up memory */
export function unigramTables(model: ModelProto, unkId: number): UnigramTables {
  let min = FLT_MAX;
  let max = FLT_MIN;
  for (const [id, score] of model.scores.entries()) {
    if (model.types[id] !== PieceType.normal) continue;
    min = Math.min(min, score);
    max = Math.max(max, score);
  }
  const scores = Float64Array.from(model.scores);
  const entries: [string, number][] = [];
  for (const [id, piece] of model.pieces.entries()) {
    const type = model.types[id];
    // More than a float32 holds.
    if (type === PieceType.userDefined) scores[id] = Math.fround(Buffer.byteLength(piece) * max) - 0.1;
    if (type === PieceType.normal || type === PieceType.userDefined) entries.push([piece, id]);
  }
  const automaton = buildAutomaton(new PieceTrie(entries), scores);
  return { automaton, unkScore: Math.fround(min - UNK_PENALTY), unkId };
}

/**
 * The most probable segmentation under a unigram language model, by Viterbi's algorithm.
 *
 * Equal to `unigram::Model::EncodeOptimized` of SentencePiece 0.1.97 down to ties: path scores are kept as float32, a
 * sum is compared before it is rounded, and of equal paths the one found first wins, that is, the one whose last piece
 * starts first. Release 0.2.2 breaks ties differently: in about one line of several thousand it takes another one of
 * two equally good paths.
 *
 * SentencePiece goes through the pieces that start at each place; here it is those that end there, the longest first: the
 * same comparisons in the same order, but the best one so far is at hand.
 */
export class UnigramSegmenter implements Segmenter {
  private readonly automaton: PieceAutomaton;
  private readonly pieceScores: Float64Array;
  private readonly pieceLinks: Int32Array;
  private readonly unkScore: number;
  private readonly unkId: number;

  // Of the best path that ends before unit i: its score, and its last piece (0: an unknown character).
  private bestScores = new Float32Array(0);
  private bestPieces = new Int32Array(0);

  constructor({ automaton, unkScore, unkId }: UnigramTables) {
    this.automaton = automaton;
    this.pieceScores = new Float64Array(automaton.pieces);
    this.pieceLinks = new Int32Array(automaton.pieces);
    this.unkScore = unkScore;
    this.unkId = unkId;
  }

  segment(units: Uint16Array, count: number, output: PieceOutput): void {
    this.reserve(count + 1);
    this.findBestPaths(units, count);
    const { bestPieces } = this;
    // Backwards along the best path, leaving the id of each of its pieces at the end of the array, in order: there is room,
    // since a piece has at least one unit.
    let first = count + 1;
    let allKnown = true;
    for (let end = count; end > 0; ) {
      const piece = bestPieces[end]!;
      end -= this.lengthOf(piece, units[end - 1]!);
      bestPieces[--first] = piece - 1;
      allKnown = allKnown && piece !== 0;
    }
    if (allKnown) {
      output.pushAllKnown(bestPieces, first, count + 1);
      return;
    }
    for (let i = first, start = 0; i <= count; i++) {
      const id = bestPieces[i]!;
      const end = start + this.lengthOf(id + 1, units[start]!);
      if (id >= 0) output.pushKnown(id);
      else output.push(this.unkId, units, start, end);
      start = end;
    }
  }

  /** Units of a piece, or of the unknown character that `unit` is of. */
  private lengthOf(piece: number, unit: number): number {
    if (piece !== 0) return this.pieceLinks[4 * piece + 3]!;
    return (unit & 0xf800) === 0xd800 ? 2 : 1;
  }

  private findBestPaths(units: Uint16Array, count: number): void {
    const { pieceScores, pieceLinks, unkScore, bestScores, bestPieces } = this;
    const { codes, states } = this.automaton;
    bestScores[0] = 0;
    let state = 0;
    for (let i = 0; i < count; i++) {
      const unit = units[i]!;
      const code = codes[unit]!;
      let next = code;
      while (state !== 0) {
        next = states[4 * state]! + code;
        if (states[4 * next + 1] === state) break;
        state = states[4 * state + 2]!;
        next = code;
      }
      let piece = states[4 * next + 3]!;
      const base = states[4 * next]!;
      state = base < 0 ? ~base : next;
      const end = i + 1;
      // No score is at most "not a number", so that the first path is always taken.
      let best = Number.NaN;
      let bestPiece = 0;
      let length = 0;
      while (piece !== 0) {
        length = pieceLinks[4 * piece + 3]!;
        const score = pieceScores[2 * piece]! + bestScores[end - length]!;
        if (!(score <= best)) {
          best = Math.fround(score);
          bestPiece = piece;
        }
        piece = pieceLinks[4 * piece + 2]!;
      }
      // Unless the last, shortest piece is the character alone, it may also be unknown.
      if (length !== 1) {
        if ((unit & 0xfc00) === 0xd800) continue;
        const start = (unit & 0xfc00) === 0xdc00 ? end - 2 : i;
        if (end - length !== start) {
          const score = Math.fround(unkScore + bestScores[start]!);
          if (!(score <= best)) {
            best = score;
            bestPiece = 0;
          }
        }
      }
      bestScores[end] = best;
      bestPieces[end] = bestPiece;
    }
  }

  private reserve(count: number): void {
    const room = this.bestPieces.length;
    if (count <= room && room <= KEPT_UNITS) return;
    const size = Math.max(1024, count > room ? Math.min(2 * count, count + KEPT_UNITS) : count);
    this.bestScores = new Float32Array(size);
    this.bestPieces = new Int32Array(size);
  }
}
