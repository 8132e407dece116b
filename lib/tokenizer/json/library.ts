import * as huggingFace from '@huggingface/tokenizers';
import type { JsonObject } from '../check-tokenizer-json.js';

/** What we use of `Tokenizer` of @huggingface/tokenizers, whose own types are lost under `module: nodenext`. */
export interface Library {
  /** `ids` must be a plain array that is not empty. */
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): Map<string, number>;
  /** Tokens of pre-tokens; text that the vocabulary lacks may stand there as it is. */
  model(preTokens: string[]): string[];
}

const { Tokenizer, SplitPreTokenizer } = huggingFace as unknown as {
  Tokenizer: new (json: JsonObject, config: JsonObject) => Library;
  SplitPreTokenizer: new (json: JsonObject) => { pattern: RegExp | null };
};

/**
 * The library's tokenizer, for its models and decoders. What stands before the model is ours: the library's own normalizers
 * and pre-tokenizers, and its search for added tokens, differ from those of Python's tokenizers in many small ways.
 */
export function openLibrary({ model, decoder = null, added_tokens: added = [] }: JsonObject): Library {
  const ours = { normalizer: null, pre_tokenizer: null, post_processor: null };
  return new Tokenizer({ model, decoder, added_tokens: added, ...ours }, {});
}

/** A pattern of tokenizer.json, which is text or one of Oniguruma's regular expressions, as JavaScript's. */
export function patternOf(pattern: unknown): RegExp {
  const { String: text, Regex: source } = (pattern ?? {}) as { String?: unknown; Regex?: unknown };
  if (typeof text === 'string') return textPattern([text]);
  const found = typeof source === 'string' ? new SplitPreTokenizer({ pattern: { Regex: source } }).pattern : null;
  if (found === null) throw new Error('a pattern is neither a String nor a Regex');
  return found;
}

/** Finds texts, of those that begin at one place the first in the list. */
export function textPattern(texts: readonly string[]): RegExp {
  const sources = texts.filter((text) => text !== '').map((text) => text.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&'));
  return new RegExp(sources.length === 0 ? '(?!)' : sources.join('|'), 'gu');
}
