import { type ModelProto, PieceType } from './model-proto.js';
import { PackedTrie } from './packed-trie.js';
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
  private readonly trie: PackedTrie;
  /** Score of the piece that ends at each node. Only those of user-defined symbols need more than float32. */
  private readonly scores: Float32Array | Float64Array;
  private readonly unkScore: number;

  // Of the best path that ends before unit i: its score, where its last piece starts, and that piece's node (0: unknown).
  private bestScores = new Float32Array(0);
  private bestStarts = new Int32Array(0);
  private bestNodes = new Int32Array(0);

  // Code of each unit, and the node that it and the next unit lead to (0: none).
  private codes = new Uint16Array(0);
  private pairs = new Int32Array(0);

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
    const scores = Float64Array.from(model.scores);
    const entries: [string, number][] = [];
    for (const [id, piece] of model.pieces.entries()) {
      const type = model.types[id];
      if (type === PieceType.userDefined) scores[id] = Math.fround(Buffer.byteLength(piece) * max) - 0.1;
      if (type === PieceType.normal || type === PieceType.userDefined) entries.push([piece, id]);
    }
    this.trie = new PackedTrie(new PieceTrie(entries));
    const nodeScores = Float64Array.from(this.trie.ids, (id) => scores[id] ?? 0);
    this.scores = model.types.includes(PieceType.userDefined) ? nodeScores : Float32Array.from(nodeScores);
  }

  segment(units: Uint16Array, count: number, output: PieceOutput): void {
    this.reserve(count + 1);
    this.findPairs(units, count);
    this.findBestPaths(units, count);
    const { bestStarts, bestNodes } = this;
    const { ids } = this.trie;
    // Backwards along the best path, leaving what belongs to each of its pieces at the end of the arrays, in order: there
    // is room, since a piece has at least one unit.
    let first = count + 1;
    for (let end = count; end > 0; ) {
      const start = bestStarts[end]!;
      first--;
      bestNodes[first] = bestNodes[end]!;
      bestStarts[first] = start;
      end = start;
    }
    for (let i = first; i <= count; i++) {
      const node = bestNodes[i]!;
      if (node !== 0) output.pushKnown(ids[node]!);
      else output.push(this.unkId, units, bestStarts[i]!, i < count ? bestStarts[i + 1]! : count);
    }
  }

  /** Fills {@link codes} and {@link pairs}. All at once it is quicker: no lookup waits for another, or for a decision. */
  private findPairs(units: Uint16Array, count: number): void {
    const { codes, pairs } = this;
    const { edges, codes: codeOf } = this.trie;
    for (let i = 0; i < count; i++) codes[i] = codeOf[units[i]!]!;
    codes[count] = 0;
    for (let i = 0; i < count; i++) {
      const node = codes[i]!;
      const child = (edges[2 * node]! >> 1) + codes[i + 1]!;
      const difference = edges[2 * child + 1]! ^ node;
      pairs[i] = child & ~((difference | -difference) >> 31);
    }
  }

  private findBestPaths(units: Uint16Array, count: number): void {
    const { scores, unkScore, bestScores, bestStarts, bestNodes, codes, pairs } = this;
    const { edges } = this.trie;
    // No score is at most "not a number", so that the first path is always taken.
    bestScores.fill(Number.NaN, 1, count + 1);
    bestScores[0] = 0;
    for (let start = 0; start < count; ) {
      const here = bestScores[start]!;
      const next = characterEnd(units, start, count);
      let node = next === start + 1 ? codes[start]! : pairs[start]!;
      const isPiece = (edges[2 * node]! & 1) === 1;
      const score = isPiece ? scores[node]! + here : Math.fround(unkScore + here);
      if (!(score <= bestScores[next]!)) {
        bestScores[next] = score;
        bestStarts[next] = start;
        bestNodes[next] = isPiece ? node : 0;
      }
      node = pairs[start]!;
      for (let end = start + 2; node !== 0; end++) {
        const edge = edges[2 * node]!;
        if ((edge & 1) === 1) {
          const score = scores[node]! + here;
          if (!(score <= bestScores[end]!)) {
            bestScores[end] = score;
            bestStarts[end] = start;
            bestNodes[end] = node;
          }
        }
        // Behind the text is a code that leads nowhere.
        const child = (edge >> 1) + codes[end]!;
        node = edges[2 * child + 1] === node ? child : 0;
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
    this.bestNodes = new Int32Array(size);
    this.codes = new Uint16Array(size);
    this.pairs = new Int32Array(size);
  }
}
