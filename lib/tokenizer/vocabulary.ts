/** What a token is for; the kinds are SentencePiece's. */
export type TokenKind =
  | 'normal'
  | 'unknown' // stands for text that no token can spell
  | 'control' // stands for no text, such as the end of one
  | 'user' // found in a text before anything else is
  | 'unused' // never made
  | 'byte'; // one byte of a character that no other token spells

/** What a tokenizer consists of: for comparing tokenizers, and for the files of other programs. */
export interface Vocabulary {
  /** Text of each token as the tokenizer's file spells it, by id; undefined for ids that it leaves out. */
  readonly tokens: readonly (string | undefined)[];
  readonly kinds: readonly TokenKind[];
  /** How text becomes tokens, where that is one of the ways that other programs know. */
  readonly method: ByteLevelBpe | SentencePieceMethod | undefined;
}

/** GPT-2's: the text is cut by GPT-2's pattern, and the bytes of each piece are merged. */
export interface ByteLevelBpe {
  kind: 'byte-level-bpe';
  /** `left right`, the first merge first. */
  merges: readonly string[];
}

/** SentencePiece's unigram and BPE models. */
export interface SentencePieceMethod {
  kind: 'unigram' | 'sentencepiece-bpe';
  /** By id. */
  scores: Float32Array;
  /** Compiled character rules; empty: none. */
  charsmap: Uint8Array;
  addDummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  /** Whether spaces go to the end of the word before them. */
  treatWhitespaceAsSuffix: boolean;
  /** Whether there is a token for each byte. */
  byteFallback: boolean;
}

/**
 * The first id at which a tokenizer does not continue another: `undefined` when it has all its tokens under the same ids,
 * and perhaps more.
 */
export function firstDifference(base: Vocabulary, other: Vocabulary): number | undefined {
  const found = base.tokens.findIndex((token, id) => token !== undefined && token !== other.tokens[id]);
  return found < 0 ? undefined : found;
}
