import { KotodamaError } from '../../errors.js';
import type { OpenTokenizer } from '../../tokenizer/types.js';
import type { ByteLevelBpe, SentencePieceMethod, TokenKind } from '../../tokenizer/vocabulary.js';
import type { GPT2Config } from '../config.js';
import { checkTokenizerFits } from '../tokenizer-fit.js';
import type { GgufValue } from './write.js';

/** llama_token_type */
const TOKEN_TYPES: Readonly<Record<TokenKind, number>> = {
  normal: 1,
  unknown: 2,
  control: 3,
  user: 4,
  unused: 5,
  byte: 6,
};

/** The kinds of tokens that may end a text without ending one too early. */
const STANDS_FOR_NO_TEXT: ReadonlySet<TokenKind> = new Set<TokenKind>(['control', 'unused']);

/** What llama.cpp calls the ways of making tokens. */
const MODELS = { 'byte-level-bpe': 'gpt2', unigram: 't5', 'sentencepiece-bpe': 'llama' } as const;

/**
 * The tokenizer in GGUF's metadata, as llama.cpp reads it. Ids of the model that the tokenizer lacks are tokens that are
 * never made.
 *
 * @throws KotodamaError `ERR_TOKENIZER` when llama.cpp could not make the same tokens, the model has fewer of them, or none
 *   can end a text
 */
export function tokenizerMetadata(tokenizer: OpenTokenizer, config: Readonly<GPT2Config>): Map<string, GgufValue> {
  const { vocabSize } = config;
  checkTokenizerFits(config, tokenizer);
  if (tokenizer.vocabSize > vocabSize) {
    throw new KotodamaError('ERR_TOKENIZER', 'The tokenizer has special tokens that the model lacks', {
      expected: `at most ${vocabSize} ids, since a GGUF file has a line for each`,
      received: `${tokenizer.vocabSize}`,
      hint: `give the model as many: GPT2.fromPretrained(folder, { vocabSize: ${tokenizer.vocabSize} })`,
    });
  }
  const { tokens, kinds, method } = tokenizer.vocabulary;
  const obstacle = method === undefined ? 'llama.cpp has no tokenizer of this kind' : obstacleOf(method);
  if (method === undefined || obstacle !== undefined) {
    throw new KotodamaError('ERR_TOKENIZER', `llama.cpp would not make the same tokens: ${obstacle}`, {
      expected: "a byte-level BPE like GPT-2's, or SentencePiece's unigram or BPE as llama.cpp has them",
      hint: 'save the model for Transformers instead, or train it with another tokenizer',
    });
  }
  const ids = Array.from({ length: vocabSize }, (_, id) => id);
  const kindOf = (id: number) => (tokens[id] === undefined ? 'unused' : (kinds[id] ?? 'unused'));
  const metadata = new Map<string, GgufValue>([
    ['model', { type: 'string', value: MODELS[method.kind] }],
    ['pre', { type: 'string', value: method.kind === 'byte-level-bpe' ? 'gpt-2' : 'default' }],
    // llama.cpp wants every token to be another.
    ['tokens', { type: 'strings', value: ids.map((id) => tokens[id] ?? `[PAD${id}]`) }],
    ['token_type', { type: 'i32s', value: Int32Array.from(ids, (id) => TOKEN_TYPES[kindOf(id)]) }],
    // The tokenizer adds nothing by itself; llama.cpp would for some kinds.
    ['add_bos_token', { type: 'bool', value: false }],
    ['add_eos_token', { type: 'bool', value: false }],
  ]);
  if (method.kind === 'byte-level-bpe') metadata.set('merges', { type: 'strings', value: method.merges });
  else addSentencePiece(metadata, method, vocabSize);

  const bos = config.bosTokenId ?? tokenizer.bosTokenId;
  const eos = config.eosTokenId ?? tokenizer.eosTokenId ?? bos ?? ids.find((id) => STANDS_FOR_NO_TEXT.has(kindOf(id)));
  if (eos === undefined) {
    throw new KotodamaError('ERR_TOKENIZER', 'There is no token that can end a text for llama.cpp', {
      expected: 'one, since llama.cpp takes an ordinary token for the end where none is named',
      received: 'a tokenizer whose tokens all stand for text',
      hint: 'add one with kotodama add-tokens, and train the model on with it',
    });
  }
  const special = {
    // A beginning that is not named would be an ordinary token, too.
    bos: bos ?? eos,
    eos,
    padding: config.padTokenId ?? tokenizer.padTokenId,
    unknown: tokenizer.unkTokenId,
  };
  for (const [name, id] of Object.entries(special)) {
    if (id !== undefined) metadata.set(`${name}_token_id`, { type: 'u32', value: id });
  }
  return new Map([...metadata].map(([key, value]) => [`tokenizer.ggml.${key}`, value]));
}

/** What llama.cpp would do otherwise with ordinary text. */
function obstacleOf(method: ByteLevelBpe | SentencePieceMethod): string | undefined {
  if (method.kind === 'byte-level-bpe') return undefined;
  if (method.treatWhitespaceAsSuffix) return 'it puts spaces before words, and this tokenizer after them';
  if (method.kind === 'unigram') {
    return method.byteFallback ? 'it cannot spell unknown characters in bytes for a unigram model' : undefined;
  }
  if (!method.byteFallback) return 'its BPE spells unknown characters in bytes, for which there are no tokens here';
  return method.charsmap.length > 0 ? 'it does not normalize text for a BPE model, as this tokenizer does' : undefined;
}

function addSentencePiece(metadata: Map<string, GgufValue>, method: SentencePieceMethod, vocabSize: number): void {
  const scores = new Float32Array(vocabSize);
  scores.set(method.scores);
  metadata.set('scores', { type: 'f32s', value: scores });
  metadata.set('add_space_prefix', { type: 'bool', value: method.addDummyPrefix });
  // Where it removes spaces llama.cpp also puts one before the text, so without a prefix double spaces have to stay.
  const removeExtra = method.removeExtraWhitespaces && method.addDummyPrefix;
  metadata.set('remove_extra_whitespaces', { type: 'bool', value: removeExtra });
  if (method.charsmap.length > 0) metadata.set('precompiled_charsmap', { type: 'u8s', value: method.charsmap });
}
