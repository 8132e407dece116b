import { KotodamaError } from '../../errors.js';
import { WireReader } from './wire.js';

/** `ModelProto.SentencePiece.Type` of sentencepiece_model.proto. */
export const PieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** `TrainerSpec.ModelType` of sentencepiece_model.proto. */
export const ModelType = { unigram: 1, bpe: 2, word: 3, char: 4 } as const;

/** What encoding and decoding need of `NormalizerSpec`. */
export interface NormalizerSpec {
  /** Compiled character rules; empty: none. A view into the model file. */
  charsmap: Uint8Array;
  addDummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  escapeWhitespaces: boolean;
}

/** What encoding and decoding need of a `ModelProto`, checked as SentencePiece checks it. */
export interface ModelProto {
  /** Text of every piece, by id. */
  pieces: string[];
  /** float32 score of every piece, by id. */
  scores: Float32Array;
  /** {@link PieceType} of every piece, by id. */
  types: Uint8Array;
  /** One of {@link ModelType}. */
  modelType: number;
  byteFallback: boolean;
  treatWhitespaceAsSuffix: boolean;
  /** Text that stands for an unknown piece when decoding. */
  unkSurface: string;
  bosPiece: string;
  eosPiece: string;
  padPiece: string;
  normalizer: NormalizerSpec;
  /** Rules that `decode` applies to its result; rarely present. */
  denormalizer: NormalizerSpec | undefined;
}

/** Largest file that is read. The largest models in use (262,144 pieces) have about 5 MB. */
export const MAX_MODEL_BYTES = 16 * 1024 * 1024;

/** A piece has fewer UTF-8 bytes than this (kMaxPieceSize of SentencePiece). */
const MAX_PIECE_BYTES = 8000;

/**
 * Reads a SentencePiece `.model` file (a serialized `ModelProto` of sentencepiece_model.proto).
 *
 * Memory is bounded by a small multiple of the file's size, and the size by {@link MAX_MODEL_BYTES}.
 *
 * @throws KotodamaError ERR_TOKENIZER if the file is damaged or holds what SentencePiece itself refuses.
 */
export function readModelProto(data: Uint8Array): ModelProto {
  if (data.length > MAX_MODEL_BYTES) {
    throw broken('the file is too large', `at most ${MAX_MODEL_BYTES} bytes`, `${data.length}`);
  }
  const model: ModelProto = {
    pieces: [],
    scores: new Float32Array(0),
    types: new Uint8Array(0),
    modelType: ModelType.unigram,
    byteFallback: false,
    treatWhitespaceAsSuffix: false,
    unkSurface: ' \u2047 ',
    bosPiece: '<s>',
    eosPiece: '</s>',
    padPiece: '<pad>',
    normalizer: defaultNormalizerSpec(),
    denormalizer: undefined,
  };
  const scores: number[] = [];
  const types: number[] = [];
  const reader = new WireReader(data, 'ModelProto');
  while (reader.next()) {
    if (reader.field === 1) readPiece(reader.bytes(), model.pieces, scores, types);
    else if (reader.field === 2) readTrainerSpec(reader.bytes(), model);
    else if (reader.field === 3) readNormalizerSpec(reader.bytes(), model.normalizer);
    else if (reader.field === 5) {
      model.denormalizer ??= defaultNormalizerSpec();
      readNormalizerSpec(reader.bytes(), model.denormalizer);
    } else reader.skip();
  }
  model.scores = Float32Array.from(scores);
  model.types = Uint8Array.from(types);
  checkPieces(model);
  return model;
}

/** Defaults of sentencepiece_model.proto. */
function defaultNormalizerSpec(): NormalizerSpec {
  return { charsmap: new Uint8Array(0), addDummyPrefix: true, removeExtraWhitespaces: true, escapeWhitespaces: true };
}

function readPiece(data: Uint8Array, pieces: string[], scores: number[], types: number[]): void {
  const name = `piece ${pieces.length}`;
  const reader = new WireReader(data, name);
  let text = '';
  let score = 0;
  let type: number = PieceType.normal;
  while (reader.next()) {
    if (reader.field === 1) text = reader.text();
    else if (reader.field === 2) score = reader.float32();
    else if (reader.field === 3) type = reader.integer();
    else reader.skip();
  }
  if (text === '') throw broken(`${name} is empty`);
  if (data.length >= MAX_PIECE_BYTES && Buffer.byteLength(text) >= MAX_PIECE_BYTES) throw broken(`${name} is too long`);
  if (text.includes('\0')) throw broken(`${name} holds a NUL character`);
  if (Number.isNaN(score)) throw broken(`the score of ${name} is not a number`);
  if (type < PieceType.normal || type > PieceType.byte)
    throw broken(`${name} has an unknown type`, '1 to 6', `${type}`);
  pieces.push(text);
  scores.push(score);
  types.push(type);
}

function readTrainerSpec(data: Uint8Array, model: ModelProto): void {
  const reader = new WireReader(data, 'TrainerSpec');
  while (reader.next()) {
    if (reader.field === 3) model.modelType = reader.integer();
    else if (reader.field === 24) model.treatWhitespaceAsSuffix = reader.boolean();
    else if (reader.field === 35) model.byteFallback = reader.boolean();
    else if (reader.field === 44) model.unkSurface = reader.text();
    else if (reader.field === 46) model.bosPiece = reader.text() || '<s>';
    else if (reader.field === 47) model.eosPiece = reader.text() || '</s>';
    else if (reader.field === 48) model.padPiece = reader.text() || '<pad>';
    else reader.skip();
  }
  if (model.modelType < ModelType.unigram || model.modelType > ModelType.char) {
    throw broken('unknown model type', '1 (unigram), 2 (BPE), 3 (word) or 4 (char)', `${model.modelType}`);
  }
}

function readNormalizerSpec(data: Uint8Array, spec: NormalizerSpec): void {
  const reader = new WireReader(data, 'NormalizerSpec');
  while (reader.next()) {
    if (reader.field === 2) spec.charsmap = reader.bytes();
    else if (reader.field === 3) spec.addDummyPrefix = reader.boolean();
    else if (reader.field === 4) spec.removeExtraWhitespaces = reader.boolean();
    else if (reader.field === 5) spec.escapeWhitespaces = reader.boolean();
    else reader.skip();
  }
}

/** The conditions of `ModelInterface::InitializePieces`. */
function checkPieces(model: ModelProto): void {
  const { pieces, types } = model;
  const seen = { ordinary: new Set<string>(), reserved: new Set<string>() };
  let unknowns = 0;
  let bytes = 0;
  for (const [id, piece] of pieces.entries()) {
    const type = types[id]!;
    const names = isReserved(type) ? seen.reserved : seen.ordinary;
    if (names.has(piece)) throw broken(`piece ${id} ${JSON.stringify(piece)} is defined twice`);
    names.add(piece);
    if (type === PieceType.unknown) unknowns++;
    if (type === PieceType.byte) {
      if (!model.byteFallback) throw broken(`piece ${id} is a byte piece although byte_fallback is off`);
      if (byteOfPiece(piece) < 0)
        throw broken(`byte piece ${id} has a wrong name`, '"<0x00>" to "<0xFF>"', JSON.stringify(piece));
      bytes++;
    }
  }
  if (unknowns !== 1) throw broken('wrong number of unknown pieces', '1', `${unknowns}`);
  if (model.byteFallback && bytes !== 256) throw broken('byte_fallback is on', '256 byte pieces', `${bytes}`);
  if (seen.ordinary.size === 0) throw broken('there is no piece that text can become');
}

/** Whether text never becomes a piece of this type by matching it: unknown, control and byte pieces. */
export function isReserved(type: number): boolean {
  return type === PieceType.unknown || type === PieceType.control || type === PieceType.byte;
}

/** Byte of a byte piece (`<0x3A>` is 58); -1 if it is none. */
export function byteOfPiece(piece: string): number {
  return /^<0x[0-9A-F]{2}>$/.test(piece) ? Number.parseInt(piece.slice(3, 5), 16) : -1;
}

function broken(what: string, expected?: string, received?: string): KotodamaError {
  return new KotodamaError('ERR_TOKENIZER', `SentencePiece model: ${what}`, {
    ...(expected === undefined ? {} : { expected }),
    ...(received === undefined ? {} : { received }),
  });
}
