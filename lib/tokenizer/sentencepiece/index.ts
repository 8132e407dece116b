export {
  loadSentencePiece,
  type SentencePieceOptions,
  SentencePieceTokenizer,
  type SpecialTokens,
} from './tokenizer.js';
