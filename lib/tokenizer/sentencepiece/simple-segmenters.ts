import { isReserved, type ModelProto, PieceType } from './model-proto.js';
import { SPACE_SYMBOL } from './normalizer.js';
import { PieceTrie } from './piece-trie.js';
import { characterEnd, type PieceOutput, type Segmenter, symbolEnd } from './segmenter.js';

/**
 * The pieces by their text. A byte piece counts, and first: both models ask `PieceToId`, which looks among reserved pieces
 * before all others. (It finds control pieces, too: release 0.1.97 then gives up the text, while 0.2.2 does not where a model
 * of words has no dummy prefix. Here they are no part of a text.)
 */
function piecesByText(model: ModelProto): PieceTrie {
  const entries = model.pieces.map((piece, id) => [piece, id] as const);
  const ordinary = entries.filter(([, id]) => !isReserved(model.types[id]!));
  const bytes = entries.filter(([, id]) => model.types[id] === PieceType.byte);
  return new PieceTrie([...ordinary, ...bytes]);
}

/** One piece per character or user-defined symbol (`character::Model` of SentencePiece). */
export class CharSegmenter implements Segmenter {
  private readonly trie: PieceTrie;

  constructor(
    model: ModelProto,
    private readonly symbols: PieceTrie | undefined,
    private readonly unkId: number,
  ) {
    this.trie = piecesByText(model);
  }

  segment(units: Uint16Array, count: number, output: PieceOutput): void {
    let start = 0;
    while (start < count) {
      const found = symbolEnd(this.symbols, units, start, count);
      const end = found > start ? found : characterEnd(units, start, count);
      output.push(idOf(this.trie, units, start, end, this.unkId), units, start, end);
      start = end;
    }
  }
}

/** One piece per word, each word starting with the space before it (`word::Model` of SentencePiece). */
export class WordSegmenter implements Segmenter {
  private readonly trie: PieceTrie;

  constructor(
    model: ModelProto,
    private readonly unkId: number,
  ) {
    this.trie = piecesByText(model);
  }

  segment(units: Uint16Array, count: number, output: PieceOutput): void {
    let start = 0;
    for (let end = 1; end <= count; end++) {
      if (end < count && units[end] !== SPACE_SYMBOL) continue;
      output.push(idOf(this.trie, units, start, end, this.unkId), units, start, end);
      start = end;
    }
  }
}

function idOf(trie: PieceTrie, units: Uint16Array, start: number, end: number, unkId: number): number {
  const node = trie.walk(trie.first[units[start]!]!, units, start + 1, end);
  const id = trie.ids[node]!;
  return id < 0 ? unkId : id;
}
