import type { IdBuffer } from './id-buffer.js';
import type { Vocabulary } from './vocabulary.js';

/** What the data pipeline, generation and evaluation need of a tokenizer. */
export interface TokenizerModel {
  /** Number of ids: the smallest vocabSize that a model may have. */
  readonly vocabSize: number;
  /** The id that begins a text, where there is one. */
  readonly bosTokenId: number | undefined;
  /** The id that ends a text, where there is one. */
  readonly eosTokenId: number | undefined;
  /** The id that fills up, where there is one. */
  readonly padTokenId: number | undefined;
  /** The id that stands for what the vocabulary lacks, where there is one. */
  readonly unkTokenId: number | undefined;
  /** Ids of `text`; nothing is added before or after. */
  encode(text: string): number[];
  /** Text of `ids`; special tokens are left out when `skipSpecialTokens` is true (default false). */
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string;
}

/** A tokenizer that also takes text as it lies in files, without making strings and arrays of it. */
export interface Utf8TokenizerModel extends TokenizerModel {
  /** Adds the ids of the text `bytes[start..end)`, which must be well-formed UTF-8. */
  encodeUtf8(bytes: Uint8Array, start: number, end: number, ids: IdBuffer): void;
}

/** A tokenizer that may decode bytes side by side only together. */
export interface RunTokenizer extends TokenizerModel {
  /** Whether an id is a byte whose text depends on all bytes beside it, before and behind, until another token comes. */
  isOfRun(id: number): boolean;
}

/** A tokenizer that shows what it consists of. */
export interface OpenTokenizer extends TokenizerModel {
  /** The tokens and how they are made. */
  readonly vocabulary: Vocabulary;
}
