import { ModelType } from './model-proto.js';
import { WireWriter } from './wire-writer.js';

/** A piece as a model file has it. */
export interface Piece {
  text: string;
  score: number;
  /** One of `PieceType`. */
  type: number;
}

/** What a unigram model consists of. */
export interface UnigramModel {
  /** By id. */
  pieces: readonly Piece[];
  /** Texts of the special pieces, which must be among the pieces. */
  unk: string;
  bos: string;
  eos: string;
  pad: string;
  byteFallback: boolean;
  characterCoverage: number;
  normalizer: {
    name: string;
    /** Compiled rules; empty for none. */
    charsmap: Uint8Array;
    addDummyPrefix: boolean;
  };
}

/** The content of a `.model` file: a `ModelProto` of sentencepiece_model.proto. */
export function writeUnigramModel(model: UnigramModel): Uint8Array {
  const file = new WireWriter();
  for (const { text, score, type } of model.pieces) {
    file.bytes(1, new WireWriter().text(1, text).float32(2, score).integer(3, type).finish());
  }
  const { name, charsmap, addDummyPrefix } = model.normalizer;
  const normalizer = new WireWriter()
    .text(1, name)
    .bytes(2, charsmap)
    .boolean(3, addDummyPrefix)
    .boolean(4, true)
    .boolean(5, true);
  return file.bytes(2, trainerSpec(model)).bytes(3, normalizer.finish()).finish();
}

function trainerSpec(model: UnigramModel): Uint8Array {
  const idOf = (piece: string) => model.pieces.findIndex(({ text }) => text === piece);
  return new WireWriter()
    .integer(3, ModelType.unigram)
    .integer(4, model.pieces.length)
    .float32(10, model.characterCoverage)
    .boolean(35, model.byteFallback)
    .integer(40, idOf(model.unk))
    .integer(41, idOf(model.bos))
    .integer(42, idOf(model.eos))
    .integer(43, idOf(model.pad))
    .text(45, model.unk)
    .text(46, model.bos)
    .text(47, model.eos)
    .text(48, model.pad)
    .finish();
}
