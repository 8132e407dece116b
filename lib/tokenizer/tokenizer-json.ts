import { KotodamaError, messageOf } from '../errors.js';
import { ByteLevelEncoder } from './byte-level/byte-level-encoder.js';
import {
  type AddedToken,
  asObject,
  type CheckedTokenizerJson,
  checkTokenizerJson,
  isNormalized,
  type JsonObject,
} from './check-tokenizer-json.js';
import { IdBuffer } from './id-buffer.js';
import { byteOf, hasByteFallback } from './json/decoders.js';
import { type Library, openLibrary } from './json/library.js';
import { TextEncoder } from './json/text-encoder.js';
import type { OpenTokenizer, RunTokenizer, Utf8TokenizerModel } from './types.js';
import { Utf8Scratch } from './utf8-scratch.js';
import type { ByteLevelBpe, TokenKind, Vocabulary } from './vocabulary.js';

/** What GPT-2's own tokenizer begins and ends a text with. */
const GPT2_END = '<|endoftext|>';

const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** A tokenizer described by tokenizer.json and tokenizer_config.json. */
export class JsonTokenizer implements Utf8TokenizerModel, OpenTokenizer, RunTokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly padTokenId: number | undefined;
  readonly unkTokenId: number | undefined;
  private readonly library: Library;
  /** For GPT-2's kind, some ten times as fast as the way for all others. */
  private readonly fast: ByteLevelEncoder | undefined;
  private readonly slow: TextEncoder | undefined;
  private readonly scratch = new Utf8Scratch();
  private readonly ids = new IdBuffer();
  private readonly model: JsonObject;
  private readonly added: readonly AddedToken[];
  private readonly plain: boolean;
  private readonly hasRuns: boolean;

  /**
   * @param content of tokenizer.json; dropout, truncation, padding and what the post-processor adds are left out
   * @param config content of tokenizer_config.json; names special tokens, of which one that tokenizer.json lacks is left out
   * @param isGpt2 whether it is GPT-2's own, so that a begin or an end of text that `config` does not name is
   *   `<|endoftext|>`. Default: if it is of that kind, with this token added
   * @throws KotodamaError `ERR_TOKENIZER` when there is no model, or something before it is of an unknown kind
   */
  constructor(content: JsonObject, config: JsonObject = {}, isGpt2?: boolean) {
    const json = checkTokenizerJson(content);
    const { model } = json;
    const added = addedTokens(json);
    const described = { ...json, ...partsAsIn(config, json) };
    this.model = model;
    this.added = added;
    this.hasRuns = hasByteFallback(json.decoder);
    this.plain = isPlainByteLevel(described, added);
    this.fast = this.plain ? byteLevelEncoder(model, added) : undefined;
    try {
      // Who decodes needs no merges, of which the library makes large tables.
      const its = Array.isArray(model.merges) ? { ...model, merges: [] } : model;
      this.library = openLibrary({ ...json, model: its }, added);
      const unknown = unknownToken(model);
      const unkId = unknown === undefined ? undefined : this.library.token_to_id(unknown);
      this.slow =
        this.fast === undefined ? new TextEncoder(described, added, unkId, openLibrary({ model })) : undefined;
      this.vocabSize = largest(this.library.get_vocab().values()) + 1;
    } catch (cause) {
      throw new KotodamaError('ERR_TOKENIZER', `tokenizer.json cannot be used (${messageOf(cause)})`, { cause });
    }
    if (this.vocabSize === 0) throw new KotodamaError('ERR_TOKENIZER', 'tokenizer.json has an empty vocabulary');
    const idOf = (token: string | undefined) => (token === undefined ? undefined : this.library.token_to_id(token));
    // GPT-2's tokenizer_config.json on the Hub names none: Transformers' class knows them. Where it names null, there is none.
    const isOfItsKind = () => this.plain && added.some(({ content }) => content === GPT2_END);
    const usual = (isGpt2 ?? isOfItsKind()) ? GPT2_END : undefined;
    const named = (key: string) => (config[key] === undefined ? usual : specialToken(config, key));
    this.bosTokenId = idOf(named('bos_token'));
    this.eosTokenId = idOf(named('eos_token'));
    this.padTokenId = idOf(specialToken(config, 'pad_token'));
    this.unkTokenId = idOf(specialToken(config, 'unk_token') ?? unknownToken(model));
  }

  get vocabulary(): Vocabulary {
    const tokens = new Array<string | undefined>(this.vocabSize).fill(undefined);
    for (const [token, id] of this.library.get_vocab()) tokens[id] = token;
    const kinds = new Array<TokenKind>(this.vocabSize).fill('normal');
    for (const { content, special } of this.added) {
      const id = this.library.token_to_id(content);
      if (id !== undefined) kinds[id] = special === true ? 'control' : 'user';
    }
    return { tokens, kinds, method: this.plain ? byteLevelBpe(this.model) : undefined };
  }

  isOfRun(id: number): boolean {
    return this.hasRuns && byteOf(this.library.id_to_token(id) ?? '') !== undefined;
  }

  encode(text: string): number[] {
    const end = this.scratch.write(text);
    this.encodeUtf8(this.scratch.bytes, 0, end, this.ids);
    return this.ids.takeArray();
  }

  encodeUtf8(bytes: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    if (this.fast !== undefined) {
      this.fast.encode(bytes, start, end, ids);
      return;
    }
    const text = UTF8.decode(bytes.subarray(start, end));
    const found = this.slow!.encode(text);
    // Before any id is given out: a text that fails leaves nothing behind for the next one.
    if (found.includes(undefined)) {
      throw new KotodamaError('ERR_TOKENIZER', `The vocabulary has no token for a part of ${quoted(text)}`, {
        hint: 'a tokenizer without an unknown token must be able to encode every character; a byte-level one can',
      });
    }
    ids.addAll(found as number[]);
  }

  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const list = Array.from(ids);
    if (list.length === 0) return '';
    for (const id of list) {
      if (this.library.id_to_token(id) !== undefined) continue;
      throw new KotodamaError('ERR_TOKENIZER', 'There is no token with this id', {
        expected: `ids from 0 to ${this.vocabSize - 1} that the vocabulary holds`,
        received: String(id),
      });
    }
    return this.library.decode(list, {
      skip_special_tokens: options.skipSpecialTokens === true,
      clean_up_tokenization_spaces: false,
    });
  }
}

/** The largest of some ids, or -1. */
function largest(ids: Iterable<number>): number {
  let result = -1;
  for (const id of ids) result = Math.max(result, id);
  return result;
}

/** A special token's text: tokenizer_config.json gives it as a string or as an object. */
export function specialToken(config: JsonObject, key: string): string | undefined {
  const value = config[key];
  const text = asObject(value)?.content ?? value;
  return typeof text === 'string' ? text : undefined;
}

function unknownToken(model: JsonObject): string | undefined {
  if (typeof model.unk_token === 'string') return model.unk_token;
  // Unigram models name it by its place in the list of [piece, score].
  const pieces = model.vocab;
  const entry: unknown = Array.isArray(pieces) && typeof model.unk_id === 'number' ? pieces[model.unk_id] : undefined;
  return Array.isArray(entry) && typeof entry[0] === 'string' ? entry[0] : undefined;
}

/** As in Python's tokenizers, one that the vocabulary has gets the id that it has there. */
function addedTokens({ model: { vocab }, added_tokens: added = [] }: CheckedTokenizerJson): AddedToken[] {
  const ids = new Map(
    Array.isArray(vocab)
      ? vocab.map(([piece], id) => [piece, id])
      : Object.entries(vocab as { [token: string]: number }),
  );
  return added.map((token) => ({ ...token, id: ids.get(token.content) ?? token.id }));
}

/** An encoder for the vocabulary and the merges of a BPE model, which stand as "a b" or as ["a", "b"]. */
function byteLevelEncoder(model: JsonObject, added: readonly AddedToken[]): ByteLevelEncoder | undefined {
  const { vocab, merges } = model;
  if (asObject(vocab) === undefined || !Array.isArray(merges)) return undefined;
  const ids = new Map(Object.entries(vocab as { [token: string]: number }));
  for (const { content, id } of added) ids.set(content, id);
  return ByteLevelEncoder.of({
    idOf: (token) => ids.get(token),
    merges: merges.map((merge: string | [string, string]) =>
      typeof merge === 'string' ? (merge.split(' ', 2) as [string, string]) : merge,
    ),
    added: [added.filter((token) => !isNormalized(token)), added.filter(isNormalized)].map((list) =>
      list.map(({ content, id, single_word: singleWord }) => ({ text: content, id, singleWord: singleWord === true })),
    ),
  });
}

/** As in Transformers, tokenizer_config.json wins: whether a space goes before a text, and whether BERT's kind lowers letters. */
function partsAsIn({ add_prefix_space: prefix, do_lower_case: lower }: JsonObject, json: JsonObject): JsonObject {
  return {
    pre_tokenizer: changed(json.pre_tokenizer, 'ByteLevel', 'add_prefix_space', prefix),
    normalizer: changed(json.normalizer, 'BertNormalizer', 'lowercase', lower),
  };
}

function changed(part: unknown, type: string, key: string, value: unknown): unknown {
  const found = asObject(part);
  return found?.type === type && typeof value === 'boolean' ? { ...found, [key]: value } : part;
}

/** Whether the tokenizer is GPT-2's kind: text is cut by GPT-2's pattern, and every piece becomes ids on its own. */
function isPlainByteLevel(json: JsonObject, added: readonly AddedToken[]): boolean {
  const model = asObject(json.model);
  const cutter = asObject(json.pre_tokenizer);
  return (
    model?.type === 'BPE' &&
    model.ignore_merges !== true &&
    !model.end_of_word_suffix &&
    !model.continuing_subword_prefix &&
    cutter?.type === 'ByteLevel' &&
    cutter.use_regex !== false &&
    cutter.add_prefix_space === false &&
    (json.normalizer ?? null) === null &&
    added.every(({ lstrip, rstrip }) => lstrip !== true && rstrip !== true)
  );
}

/** The merges of a model that does nothing but merge. */
function byteLevelBpe({ merges, ...model }: JsonObject): ByteLevelBpe | undefined {
  const plain = ['continuing_subword_prefix', 'end_of_word_suffix', 'dropout'].every((key) => !model[key]);
  if (!plain || model.ignore_merges === true || model.byte_fallback === true || !Array.isArray(merges)) {
    return undefined;
  }
  const text = (merge: unknown) => (Array.isArray(merge) ? merge.join(' ') : String(merge));
  return { kind: 'byte-level-bpe', merges: merges.map(text) };
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}
