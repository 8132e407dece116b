export { loadSentencePiece, type SentencePieceOptions, SentencePieceTokenizer } from './sentencepiece/index.js';
export { Tokenizer, type TokenizerSource } from './tokenizer.js';
export type { JsonObject } from './tokenizer-json.js';
export type { TokenizerModel } from './types.js';
