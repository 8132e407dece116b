import { type ModelProto, PieceType } from './model-proto.js';
import { PieceTrie } from './piece-trie.js';
import { characterEnd, type PieceOutput, type Segmenter } from './segmenter.js';

/** An unknown character scores this much less than the worst piece (kUnkPenalty). */
const UNK_PENALTY = 10;

/** FLT_MIN, from which SentencePiece starts to look for the best score: scores are negative, so it usually stays. */
const FLT_MIN = 2 ** -126;
const FLT_MAX = (2 - 2 ** -23) * 2 ** 127;

/** Room for longer texts than this is given back after use. */
const KEPT_UNITS = 2 ** 21;

/**
 * The most probable segmentation under a unigram language model, by Viterbi's algorithm.
 *
 * Equal to `unigram::Model::EncodeOptimized` of SentencePiece 0.1.97 down to ties: path scores are kept as float32, a
 * sum is compared before it is rounded, and of equal paths the one found first wins, that is, the one whose last piece
 * starts first. Release 0.2.2 breaks ties differently: in about one line of several thousand it takes another one of
 * two equally good paths.
 */
export class UnigramSegmenter implements Segmenter {
  private readonly trie: PieceTrie;
  /** Score of each piece; double, because that of user-defined symbols is computed as such. */
  private readonly scores: Float64Array;
  private readonly unkScore: number;

  // Of the best path that ends before unit i: its score, where its last piece starts (-1: no path yet), that piece.
  private bestScores = new Float32Array(0);
  private bestStarts = new Int32Array(0);
  private bestIds = new Int32Array(0);

  constructor(
    model: ModelProto,
    private readonly unkId: number,
  ) {
    let min = FLT_MAX;
    let max = FLT_MIN;
    for (const [id, score] of model.scores.entries()) {
      if (model.types[id] !== PieceType.normal) continue;
      min = Math.min(min, score);
      max = Math.max(max, score);
    }
    this.unkScore = Math.fround(min - UNK_PENALTY);
    this.scores = Float64Array.from(model.scores);
    const entries: [string, number][] = [];
    for (const [id, piece] of model.pieces.entries()) {
      const type = model.types[id];
      if (type === PieceType.userDefined) this.scores[id] = Math.fround(Buffer.byteLength(piece) * max) - 0.1;
      if (type === PieceType.normal || type === PieceType.userDefined) entries.push([piece, id]);
    }
    this.trie = new PieceTrie(entries);
  }

  segment(units: Uint16Array, count: number, output: PieceOutput): void {
    this.reserve(count + 1);
    this.findBestPaths(units, count);
    // Backwards along the best path, turning the links round, then forwards.
    const { bestStarts, bestIds } = this;
    let next = count;
    let nextId = 0;
    let position = count;
    while (position > 0) {
      const start = bestStarts[position]!;
      const id = bestIds[position]!;
      bestStarts[position] = next;
      bestIds[position] = nextId;
      next = position;
      nextId = id;
      position = start;
    }
    let start = 0;
    while (start < count) {
      output.push(nextId, units, start, next);
      start = next;
      nextId = bestIds[start]!;
      next = bestStarts[start]!;
    }
  }

  private findBestPaths(units: Uint16Array, count: number): void {
    const { trie, scores, unkScore, bestScores, bestStarts, bestIds } = this;
    const { ids, first } = trie;
    bestStarts.fill(-1, 0, count + 1);
    bestScores[0] = 0;
    let start = 0;
    while (start < count) {
      const here = bestScores[start]!;
      const unit = units[start]!;
      const next = characterEnd(units, start, count);
      let isCovered = false;
      let end = start + 1;
      let node = first[unit]!;
      while (node !== 0) {
        const id = ids[node]!;
        if (id >= 0) {
          const score = scores[id]! + here;
          if (bestStarts[end]! < 0 || score > bestScores[end]!) {
            bestScores[end] = score;
            bestStarts[end] = start;
            bestIds[end] = id;
          }
          if (end === next) isCovered = true;
        }
        if (end === count) break;
        node = trie.child(node, units[end]!);
        end++;
      }
      if (!isCovered) {
        const score = Math.fround(unkScore + here);
        if (bestStarts[next]! < 0 || score > bestScores[next]!) {
          bestScores[next] = score;
          bestStarts[next] = start;
          bestIds[next] = this.unkId;
        }
      }
      start = next;
    }
  }

  private reserve(count: number): void {
    const room = this.bestStarts.length;
    if (count <= room && room <= KEPT_UNITS) return;
    const size = Math.max(1024, count > room ? Math.min(2 * count, count + KEPT_UNITS) : count);
    this.bestScores = new Float32Array(size);
    this.bestStarts = new Int32Array(size);
    this.bestIds = new Int32Array(size);
  }
}
