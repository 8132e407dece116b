export type { UnigramEncoderParts } from './encoder.js';
export {
  loadSentencePiece,
  type SentencePieceOptions,
  SentencePieceTokenizer,
  type SpecialTokens,
} from './tokenizer.js';
