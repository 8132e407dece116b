export { addTokens } from './add-tokens.js';
export type { JsonObject } from './check-tokenizer-json.js';
export {
  loadSentencePiece,
  type SentencePieceOptions,
  SentencePieceTokenizer,
  type UnigramEncoderParts,
} from './sentencepiece/index.js';
export { Tokenizer, type TokenizerSource } from './tokenizer.js';
export type { OpenTokenizer, TokenizerModel } from './types.js';
export type { ByteLevelBpe, SentencePieceMethod, TokenKind, Vocabulary } from './vocabulary.js';
