export type { UnigramEncoderParts } from './encoder.js';
export {
  ADDED_BESIDE_HINT,
  loadSentencePiece,
  type SentencePieceOptions,
  SentencePieceTokenizer,
  type SpecialTokens,
} from './tokenizer.js';
