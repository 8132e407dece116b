import type { IdBuffer } from '../id-buffer.js';
import type { TextEncoders } from '../utf8-model.js';
import { Utf8Scratch } from '../utf8-scratch.js';
import type { NormalizerSpec } from './model-proto.js';
import { Normalizer } from './normalizer.js';
import { PieceTrie } from './piece-trie.js';
import { PieceOutput, type Segmenter } from './segmenter.js';
import { UnigramSegmenter, type UnigramTables } from './unigram.js';

/** The way from text to ids of a SentencePiece model. */
export class SentencePieceEncoder implements TextEncoders {
  private readonly scratch = new Utf8Scratch();

  constructor(
    private readonly normalizer: Normalizer,
    private readonly segmenter: Segmenter,
    private readonly output: PieceOutput,
  ) {}

  utf8(bytes: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    const count = this.normalizer.normalize(bytes, start, end);
    if (count === 0) return;
    this.output.begin(ids);
    this.segmenter.segment(this.normalizer.units, count, this.output);
  }

  text(text: string, ids: IdBuffer): void {
    const end = this.scratch.write(text);
    this.utf8(this.scratch.bytes, 0, end, ids);
  }
}

/** What the encoder of a unigram model is made of. Survives `structuredClone`: other threads need not read the model again. */
export interface UnigramEncoderParts {
  normalizer: NormalizerSpec;
  /** Whether the dummy space comes last. */
  spaceAsSuffix: boolean;
  /** User-defined symbols with their ids. */
  symbols: readonly (readonly [symbol: string, id: number])[];
  tables: UnigramTables;
  /** Ids of the 256 byte pieces, if there are any. */
  byteIds: Int32Array | undefined;
}

export function unigramEncoder(parts: UnigramEncoderParts): SentencePieceEncoder {
  const symbols = parts.symbols.length === 0 ? undefined : new PieceTrie(parts.symbols);
  return new SentencePieceEncoder(
    new Normalizer(parts.normalizer, symbols, parts.spaceAsSuffix),
    new UnigramSegmenter(parts.tables),
    new PieceOutput(parts.tables.unkId, parts.byteIds),
  );
}
