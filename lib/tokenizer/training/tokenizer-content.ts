import type { JsonObject } from '../check-tokenizer-json.js';

/** What a byte-level BPE tokenizer consists of. */
export interface LearnedBpe {
  /** Text of each token in the alphabet of bytes, by id; special tokens as they are. */
  tokens: readonly string[];
  /** Ids of the tokens that are joined, in the order of learning. */
  merges: readonly (readonly [left: number, right: number])[];
  specialTokens: readonly string[];
}

/** The content of tokenizer.json: GPT-2's pre-tokenization, no normalization, nothing added around a text. */
export function tokenizerJson({ tokens, merges, specialTokens }: LearnedBpe): JsonObject {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      // "a b" rather than ["a", "b"], which older releases of Python's tokenizers do not know.
      merges: merges.map(([left, right]) => `${tokens[left]} ${tokens[right]}`),
    },
  };
}

/** The content of tokenizer_config.json. The first special token is begin and end of text, as in GPT-2. */
export function tokenizerConfig(specialTokens: readonly string[]): JsonObject {
  const [endOfText] = specialTokens;
  return {
    // The class that takes tokenizer.json as it is; GPT-2's own would add tokens that it misses.
    tokenizer_class: 'PreTrainedTokenizerFast',
    add_prefix_space: false,
    clean_up_tokenization_spaces: false,
    ...(endOfText !== undefined && { bos_token: endOfText, eos_token: endOfText, unk_token: endOfText }),
  };
}
