import * as huggingFace from '@huggingface/tokenizers';
import { type AddedToken, asObject, type JsonObject } from '../check-tokenizer-json.js';
import { type Decoder, decoderOf } from './decoders.js';

/** What we use of `Tokenizer` of @huggingface/tokenizers, whose own types are lost under `module: nodenext`. */
export interface Library {
  /** `ids` must be a plain array that is not empty. */
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): Map<string, number>;
  model: {
    /** Tokens of pre-tokens; text that the vocabulary lacks may stand there as it is. */
    (preTokens: string[]): string[];
    /** Of Unigram models: tokens of one pre-token; each character that the vocabulary lacks is one. */
    tokenize?(preToken: string): string[];
  };
}

/** What else {@link Library} has, for this file. */
interface LibraryParts {
  decoder: { decode_chain: Decoder } | ((tokens: string[]) => string) | null;
}

const { Tokenizer, SplitPreTokenizer } = huggingFace as unknown as {
  Tokenizer: new (json: JsonObject, config: JsonObject) => Library & LibraryParts;
  SplitPreTokenizer: new (json: JsonObject) => { pattern: RegExp | null };
};

/** What takes the place of all that is ours. */
const NOTHING = { normalizer: null, pre_tokenizer: null, post_processor: null };

/**
 * The library's tokenizer, for its models and decoders. What stands before the model is ours: the library's own normalizers
 * and pre-tokenizers, and its search for added tokens, differ from those of Python's tokenizers in many small ways. So do
 * some of its decoders.
 *
 * @param added tokens that it decodes beside those of the model. Its model makes them of text, too, which Python's does not:
 *   a tokenizer that encodes is opened without them
 */
export function openLibrary({ model, decoder = null }: JsonObject, added: readonly AddedToken[] = []): Library {
  const library = new Tokenizer({ ...NOTHING, model, decoder, added_tokens: added }, {});
  const description = asObject(decoder);
  if (description !== undefined) {
    const decode = decoderOf(description, new Set(added.map(({ content }) => content)), libraryDecoder);
    const { end_of_word_suffix: suffix } = asObject(model) ?? {};
    // As the library has it, which would then trim the text.
    const spaced = (text: string) =>
      typeof suffix === 'string' && suffix !== '' ? text.replaceAll(suffix, ' ') : text;
    library.decoder = (tokens) => decode(tokens).map(spaced).join('');
  }
  return library;
}

function libraryDecoder(decoder: JsonObject): Decoder {
  const model = { type: 'WordLevel', vocab: {} };
  const library = new Tokenizer({ ...NOTHING, model, decoder, added_tokens: [] }, {});
  const found = library.decoder as { decode_chain: Decoder };
  return (tokens) => found.decode_chain(tokens);
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
