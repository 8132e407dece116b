import { readFile, stat } from 'node:fs/promises';
import { KotodamaError, messageOf } from '../../errors.js';
import { IdBuffer } from '../id-buffer.js';
import type { OpenTokenizer, Utf8TokenizerModel } from '../types.js';
import type { TokenKind, Vocabulary } from '../vocabulary.js';
import { BpeSegmenter } from './bpe.js';
import { Decoder } from './decoder.js';
import { SentencePieceEncoder, type UnigramEncoderParts } from './encoder.js';
import {
  byteOfPiece,
  isReserved,
  MAX_MODEL_BYTES,
  type ModelProto,
  ModelType,
  PieceType,
  readModelProto,
} from './model-proto.js';
import { Normalizer } from './normalizer.js';
import { PieceTrie } from './piece-trie.js';
import { PieceOutput, type Segmenter } from './segmenter.js';
import { CharSegmenter, WordSegmenter } from './simple-segmenters.js';
import { UnigramSegmenter, unigramTables } from './unigram.js';

/** Pieces that are to serve as special tokens, where the model's own choice is not wanted. */
export interface SpecialTokens {
  /** Beginning of a text, e.g. `<s>`. */
  bos?: string;
  /** End of a text, e.g. `</s>`. */
  eos?: string;
  /** Padding, e.g. `<pad>`. */
  pad?: string;
  /** Unknown text, e.g. `<unk>`. */
  unk?: string;
}

/** Options of {@link SentencePieceTokenizer} and {@link loadSentencePiece}. */
export interface SentencePieceOptions {
  /** Special tokens by name, as special_tokens_map.json gives them. Default: what the model file says. */
  specialTokens?: SpecialTokens;
}

/** What to do where a file beside the model names a token that is not in it. */
export const ADDED_BESIDE_HINT =
  'tokens that Python adds beside a .model are not supported: name a piece of the model in tokenizer_config.json ' +
  'or special_tokens_map.json, or save the tokenizer as tokenizer.json with Transformers';

const KINDS: Readonly<Record<number, TokenKind>> = {
  [PieceType.normal]: 'normal',
  [PieceType.unknown]: 'unknown',
  [PieceType.control]: 'control',
  [PieceType.userDefined]: 'user',
  [PieceType.unused]: 'unused',
  [PieceType.byte]: 'byte',
};

const METHODS: Readonly<Record<number, 'unigram' | 'sentencepiece-bpe'>> = {
  [ModelType.unigram]: 'unigram',
  [ModelType.bpe]: 'sentencepiece-bpe',
};

/**
 * A SentencePiece tokenizer: unigram, BPE, word or character model.
 *
 * `encode` gives the ids that SentencePiece itself gives. Nothing is added before or after them, and the text of
 * control pieces such as `<s>` is ordinary text. Lone surrogates count as U+FFFD.
 */
export class SentencePieceTokenizer implements Utf8TokenizerModel, OpenTokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly padTokenId: number | undefined;
  readonly unkTokenId: number;
  /** For encoding in other threads; undefined where the model is none of unigrams. @hidden */
  readonly encoderParts: UnigramEncoderParts | undefined;

  private readonly model: ModelProto;
  private readonly idsByPiece: ReadonlyMap<string, number>;
  private readonly normalizer: Normalizer;
  private readonly encoder: SentencePieceEncoder;
  private readonly ids = new IdBuffer();
  private readonly decoder: Decoder;

  /**
   * @param data content of a `.model` file; it must not change afterwards
   * @throws KotodamaError ERR_TOKENIZER if the file is damaged, or a special token is not in it
   */
  constructor(data: Uint8Array, options: SentencePieceOptions = {}) {
    const model = readModelProto(data);
    const symbolList = userDefinedSymbols(model);
    const symbols = symbolList.length === 0 ? undefined : new PieceTrie(symbolList);
    const unkId = model.types.indexOf(PieceType.unknown);
    this.model = model;
    this.vocabSize = model.pieces.length;
    this.idsByPiece = idsByPiece(model);
    const spaceAsSuffix = model.treatWhitespaceAsSuffix;
    const byteIds = model.byteFallback ? idsOfBytes(model) : undefined;
    this.normalizer = new Normalizer(model.normalizer, symbols, spaceAsSuffix);
    let segmenter: Segmenter;
    if (model.modelType === ModelType.unigram) {
      const tables = unigramTables(model, unkId);
      // Not a view, which would take the whole file with it.
      const normalizer = { ...model.normalizer, charsmap: model.normalizer.charsmap.slice() };
      this.encoderParts = { normalizer, spaceAsSuffix, symbols: symbolList, tables, byteIds };
      segmenter = new UnigramSegmenter(tables);
    } else {
      segmenter = createSegmenter(model, symbols, unkId);
    }
    this.encoder = new SentencePieceEncoder(this.normalizer, segmenter, new PieceOutput(unkId, byteIds));
    this.decoder = new Decoder(model);
    const special = options.specialTokens ?? {};
    this.bosTokenId = this.specialId('bos', special.bos, model.bosPiece);
    this.eosTokenId = this.specialId('eos', special.eos, model.eosPiece);
    this.padTokenId = this.specialId('pad', special.pad, model.padPiece);
    this.unkTokenId = this.specialId('unk', special.unk, model.pieces[unkId]!) ?? unkId;
  }

  get vocabulary(): Vocabulary {
    const { pieces, types, scores, normalizer, modelType, treatWhitespaceAsSuffix, byteFallback } = this.model;
    const { charsmap, addDummyPrefix, removeExtraWhitespaces } = normalizer;
    const kind = normalizer.escapeWhitespaces ? METHODS[modelType] : undefined;
    const rules = { charsmap, addDummyPrefix, removeExtraWhitespaces, treatWhitespaceAsSuffix, byteFallback };
    return {
      tokens: pieces,
      kinds: Array.from(types, (type) => KINDS[type] as TokenKind),
      method: kind === undefined ? undefined : { kind, scores, ...rules },
    };
  }

  /** @throws KotodamaError ERR_DATA if `text` is no string or has more than 2^26 UTF-16 units */
  encode(text: string): number[] {
    if (typeof text !== 'string') {
      throw new KotodamaError('ERR_DATA', 'only text can be tokenized', {
        expected: 'a string',
        received: typeof text,
      });
    }
    this.encoder.text(text, this.ids);
    return this.ids.takeArray();
  }

  encodeUtf8(bytes: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    this.encoder.utf8(bytes, start, end, ids);
  }

  /**
   * Text of `ids`. Unknown pieces become ` ⁇ ` (or what the model file says). Control pieces such as `<s>` appear as
   * their text, or not at all when `skipSpecialTokens` is true, which is what SentencePiece does.
   *
   * @throws KotodamaError ERR_TOKENIZER if an id is not in the vocabulary
   */
  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    return this.decoder.decode(ids, options.skipSpecialTokens !== true);
  }

  /** `text` as the model sees it, spaces written as U+2581. */
  normalize(text: string): string {
    return this.normalizer.normalizeToString(text);
  }

  /** The piece with this id; undefined if there is none. */
  idToPiece(id: number): string | undefined {
    return this.model.pieces[id];
  }

  /** The id of exactly this piece; undefined if there is none. */
  pieceToId(piece: string): number | undefined {
    return this.idsByPiece.get(piece);
  }

  private specialId(name: keyof SpecialTokens, wanted: string | undefined, usual: string): number | undefined {
    const id = this.idsByPiece.get(wanted ?? usual);
    if (wanted === undefined) return id !== undefined && this.model.types[id] === PieceType.control ? id : undefined;
    if (id === undefined) {
      throw new KotodamaError(
        'ERR_TOKENIZER',
        `the ${name} token ${JSON.stringify(wanted)} is not in the SentencePiece model`,
        {
          hint: ADDED_BESIDE_HINT,
        },
      );
    }
    return id;
  }
}

/**
 * Loads a SentencePiece tokenizer from a `.model` file or its content.
 *
 * ```ts
 * const tokenizer = await loadSentencePiece('spiece.model');
 * tokenizer.encode('吾輩は猫である。');
 * ```
 *
 * @throws KotodamaError ERR_IO if the file cannot be read, ERR_TOKENIZER if it cannot be used
 */
export async function loadSentencePiece(
  source: string | URL | Uint8Array,
  options: SentencePieceOptions = {},
): Promise<SentencePieceTokenizer> {
  return new SentencePieceTokenizer(source instanceof Uint8Array ? source : await readModelFile(source), options);
}

async function readModelFile(path: string | URL): Promise<Uint8Array> {
  try {
    // Files that are too large are refused by their first bytes, without reading the rest.
    const { size } = await stat(path);
    if (size <= MAX_MODEL_BYTES) return await readFile(path);
  } catch (cause) {
    throw new KotodamaError('ERR_IO', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  throw new KotodamaError('ERR_TOKENIZER', `${path} is too large for a SentencePiece model`, {
    expected: `at most ${MAX_MODEL_BYTES} bytes`,
  });
}

/** Reserved pieces win over ordinary ones of the same text. */
function idsByPiece(model: ModelProto): Map<string, number> {
  const ids = new Map(model.pieces.map((piece, id) => [piece, id]));
  for (const [id, piece] of model.pieces.entries()) if (isReserved(model.types[id]!)) ids.set(piece, id);
  return ids;
}

function userDefinedSymbols(model: ModelProto): (readonly [symbol: string, id: number])[] {
  const entries = model.pieces.map((piece, id) => [piece, id] as const);
  return entries.filter(([, id]) => model.types[id] === PieceType.userDefined);
}

function createSegmenter(model: ModelProto, symbols: PieceTrie | undefined, unkId: number): Segmenter {
  if (model.modelType === ModelType.bpe) return new BpeSegmenter(model, symbols, unkId);
  if (model.modelType === ModelType.char) return new CharSegmenter(model, symbols, unkId);
  return new WordSegmenter(model, unkId);
}

function idsOfBytes(model: ModelProto): Int32Array {
  const ids = new Int32Array(256);
  for (const [id, piece] of model.pieces.entries()) {
    if (model.types[id] === PieceType.byte) ids[byteOfPiece(piece)] = id;
  }
  return ids;
}
