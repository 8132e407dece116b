import { basename, resolve } from 'node:path';
import { KotodamaError, placed } from '../errors.js';
import { jsonText } from '../files.js';
import { folderOf, type HubOptions } from '../hub/index.js';
import { checkArgument, checkPath, describe, isRecord } from '../validate.js';
import type { JsonObject } from './check-tokenizer-json.js';
import type { IdBuffer } from './id-buffer.js';
import {
  loadSentencePiece,
  SentencePieceTokenizer,
  type SpecialTokens,
  type UnigramEncoderParts,
} from './sentencepiece/index.js';
import { refuseAddedTokens } from './sentencepiece-added.js';
import {
  CONFIG_NAME,
  chooseTokenizerFiles,
  findTokenizerFiles,
  fingerprintOf,
  JSON_NAME,
  readContents,
  readJsonObject,
  SENTENCEPIECE_NAME,
  type TokenizerFiles,
} from './tokenizer-files.js';
import { JsonTokenizer, specialToken } from './tokenizer-json.js';
import type { OpenTokenizer, Utf8TokenizerModel } from './types.js';
import type { Vocabulary } from './vocabulary.js';

/** Enough to build the same tokenizer in another thread. Survives `structuredClone`. */
export interface TokenizerSource {
  /** The folder that it was loaded from. */
  dir: string;
  /** What {@link Tokenizer.fingerprint} has to be. */
  fingerprint: string;
}

/** The one class of Transformers that takes a `spiece.model` as it is, whatever its name says. */
const PLAIN_SENTENCEPIECE = 'BertGenerationTokenizer';

/** GPT-2's classes of Transformers. */
const GPT2_CLASSES: readonly unknown[] = ['GPT2Tokenizer', 'GPT2TokenizerFast'];

/** Where a tokenizer came from. */
interface TokenizerOrigin {
  contents: ReadonlyMap<string, Uint8Array>;
  className?: string | undefined;
  /** Its folder; undefined for one that was built in memory. */
  dir?: string;
}

/**
 * Turns text into token ids and back.
 *
 *     const tokenizer = await Tokenizer.fromPretrained('path/to/folder');
 *     tokenizer.decode(tokenizer.encode('言語モデル')); // '言語モデル'
 */
export class Tokenizer implements OpenTokenizer {
  /** The files that it came from, for copies beside a model; none for one that was built in memory. */
  readonly files: readonly string[];
  /**
   * What was in those files when they were loaded, by their paths: whatever becomes of them, a copy is of this tokenizer. For
   * one that was built in memory what is written beside a model, by the names that the files get.
   */
  readonly contents: ReadonlyMap<string, Uint8Array>;
  /** sha256 over those contents: equal for equal tokenizers. */
  readonly fingerprint: string;
  /**
   * Transformers' class for it: the one that its files or the config.json beside them name, else the plain one for a
   * `spiece.model`. Without one Transformers takes GPT-2's own, which reads tokenizer.json.
   */
  readonly className: string | undefined;
  /** Undefined for a tokenizer that was built in memory. */
  readonly source: TokenizerSource | undefined;
  private readonly model: OpenTokenizer & Utf8TokenizerModel;

  private constructor(model: OpenTokenizer & Utf8TokenizerModel, origin: TokenizerOrigin) {
    if (typeof model?.encode !== 'function') {
      throw new KotodamaError('ERR_OPTIONS', 'a Tokenizer is not made with new', {
        hint: 'await Tokenizer.fromPretrained(folder) loads one, await trainTokenizer(options) makes one',
      });
    }
    const { contents, className, dir } = origin;
    this.model = model;
    this.files = dir === undefined ? [] : [...contents.keys()];
    this.contents = contents;
    this.fingerprint = fingerprintOf(contents);
    this.className = className;
    this.source = dir === undefined ? undefined : { dir, fingerprint: this.fingerprint };
  }

  /**
   * Loads a tokenizer from a folder, or from the Hub by its name, `owner/name` or `owner/name@revision`: tokenizer.json,
   * or a SentencePiece `.model`; tokenizer_config.json and special_tokens_map.json name the special tokens. With
   * a tokenizer.json, a special token that only tokenizer_config.json names is left out: the model has no row for it.
   * As in Transformers, what they do not name is `<|endoftext|>` for the begin and the end of a text with GPT-2's own kind.
   *
   * Ids are those of Python's tokenizers, but for characters of rare scripts that its tables, older than Unicode 13, do not
   * know: some accents and punctuation among them, and letters newer than Node's own tables or than Python's.
   *
   * @throws KotodamaError `ERR_TOKENIZER` when there is none, or when a file is malformed (the message names it);
   *   `ERR_HUB` when it cannot be fetched; `ERR_OPTIONS` for a name that is no text
   */
  static async fromPretrained(folderOrName: string, options: HubOptions = {}): Promise<Tokenizer> {
    checkPath('the tokenizer', folderOrName);
    const dir = await folderOf(folderOrName, chooseTokenizerFiles, options);
    const found = await findTokenizerFiles(dir);
    const config: JsonObject = {};
    // tokenizer_config.json is the younger of the two and wins.
    for (const path of [found.specialTokens, found.config]) {
      if (path !== undefined) Object.assign(config, await readJsonObject(path));
    }
    const files = [found.model, found.config, found.specialTokens].filter((path) => path !== undefined);
    const beside = await modelConfigOf(found);
    const className = classNameOf(basename(found.model), config, beside);
    const model = await loadModel(found, config, isGpt2(className, beside));
    const contents = await readContents(files);
    return new Tokenizer(model, { contents, className, dir: resolve(dir) });
  }

  /**
   * Builds a tokenizer from the parsed content of tokenizer.json and tokenizer_config.json. Data loading encodes with it
   * in the main thread, since a worker could not load it again.
   *
   * @throws KotodamaError `ERR_TOKENIZER` when something in it is damaged or unknown, `ERR_OPTIONS` when it is no object
   */
  static fromJson(json: JsonObject, config: JsonObject = {}): Tokenizer {
    checkArgument(isRecord(json), 'the content of tokenizer.json', 'an object', json);
    checkConfig(config);
    const className = classNameOf(JSON_NAME, config);
    const contents = contentsOf(JSON_NAME, Buffer.from(jsonText(json)), config);
    return new Tokenizer(new JsonTokenizer(json, config, isGpt2(className, undefined)), { contents, className });
  }

  /**
   * Builds a tokenizer from the content of a SentencePiece `.model` file and the parsed one of tokenizer_config.json. Unigram
   * models can work in other threads; with others the main thread encodes, as with {@link Tokenizer.fromJson}.
   *
   * @throws KotodamaError `ERR_TOKENIZER` when the model is damaged, or tokenizer_config.json adds tokens to it;
   *   `ERR_OPTIONS` when an argument is of another type
   */
  static fromSentencePiece(model: Uint8Array, config: JsonObject = {}): Tokenizer {
    checkArgument(model instanceof Uint8Array, 'the content of the SentencePiece model', 'a Uint8Array', model);
    checkConfig(config);
    const tokenizer = new SentencePieceTokenizer(model, { specialTokens: specialTokensOf(config) });
    refuseAddedTokens(tokenizer, config);
    // A copy: the caller may write to the bytes.
    const contents = contentsOf(SENTENCEPIECE_NAME, new Uint8Array(model), config);
    return new Tokenizer(tokenizer, { contents, className: classNameOf(SENTENCEPIECE_NAME, config) });
  }

  /** Number of ids: the smallest vocabSize that a model may have. */
  get vocabSize(): number {
    return this.model.vocabSize;
  }

  /** The id that begins a text, where there is one. */
  get bosTokenId(): number | undefined {
    return this.model.bosTokenId;
  }

  /** The id that ends a text, where there is one. */
  get eosTokenId(): number | undefined {
    return this.model.eosTokenId;
  }

  /** The id that fills up, where there is one. */
  get padTokenId(): number | undefined {
    return this.model.padTokenId;
  }

  /** The id that stands for what the vocabulary lacks, where there is one. */
  get unkTokenId(): number | undefined {
    return this.model.unkTokenId;
  }

  /** The tokens and how they are made. */
  get vocabulary(): Vocabulary {
    return this.model.vocabulary;
  }

  /**
   * Ids of `text`; nothing is added before or after. Lines of any length take time in proportion to it.
   *
   * @throws KotodamaError `ERR_OPTIONS` for anything but a string
   */
  encode(text: string): number[] {
    if (typeof text !== 'string') {
      throw new KotodamaError('ERR_OPTIONS', 'the text to encode', {
        expected: 'a string',
        received: describe(text),
        ...(Array.isArray(text) && { hint: 'encode one text at a time' }),
      });
    }
    return this.model.encode(text);
  }

  /** Enough to encode as this one does in another thread, without its files; undefined where only they are enough. @hidden */
  get encoderParts(): UnigramEncoderParts | undefined {
    return this.model instanceof SentencePieceTokenizer ? this.model.encoderParts : undefined;
  }

  /** For the stream of a generated text; see RunTokenizer. @hidden */
  isOfRun(id: number): boolean {
    return this.model instanceof JsonTokenizer && this.model.isOfRun(id);
  }

  /** For the data pipeline; see Utf8TokenizerModel. @hidden */
  encodeUtf8(bytes: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    this.model.encodeUtf8(bytes, start, end, ids);
  }

  /**
   * Text of `ids`.
   *
   * @throws KotodamaError `ERR_TOKENIZER` for an id that is not in the vocabulary, `ERR_OPTIONS` for anything but numbers
   */
  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    checkIds(ids);
    return this.model.decode(ids, options);
  }
}

function checkIds(ids: ArrayLike<number>): void {
  const isList = typeof ids === 'object' && ids !== null && typeof ids.length === 'number';
  for (let i = 0; isList && i < ids.length; i++) {
    if (typeof ids[i] === 'number') continue;
    const hint = 'decode one text at a time';
    const what = { expected: 'a number', received: describe(ids[i]), ...(Array.isArray(ids[i]) && { hint }) };
    throw new KotodamaError('ERR_OPTIONS', `the ids to decode, the one at ${i}`, what);
  }
  if (isList) return;
  const hint = typeof ids === 'number' ? 'one id alone is given as [id]' : undefined;
  throw new KotodamaError('ERR_OPTIONS', 'the ids to decode', { expected: 'an array', received: describe(ids), hint });
}

/** The files of a tokenizer that was built in memory, by their names. */
function contentsOf(name: string, model: Uint8Array, config: JsonObject): Map<string, Uint8Array> {
  const contents = new Map([[name, model]]);
  if (Object.keys(config).length > 0) contents.set(CONFIG_NAME, Buffer.from(jsonText(config)));
  return contents;
}

/** The config.json of the model beside a tokenizer; undefined without one. */
async function modelConfigOf({ modelConfig }: TokenizerFiles): Promise<JsonObject | undefined> {
  // That file is the model's: what is wrong with it is complained about where the model is loaded.
  return modelConfig === undefined ? undefined : readJsonObject(modelConfig).catch((): JsonObject => ({}));
}

/** See {@link Tokenizer.className}. */
function classNameOf(model: string, config: JsonObject, beside?: JsonObject): string | undefined {
  const named = [config, beside].map((found) => found?.tokenizer_class).find((name) => typeof name === 'string');
  return named ?? (model === SENTENCEPIECE_NAME ? PLAIN_SENTENCEPIECE : undefined);
}

/** Whether a tokenizer is GPT-2's own, by its class or else by the model beside it; undefined where neither tells. */
function isGpt2(className: unknown, beside: JsonObject | undefined): boolean | undefined {
  if (typeof className === 'string') return GPT2_CLASSES.includes(className);
  return beside === undefined ? undefined : beside.model_type === 'gpt2';
}

async function loadModel(
  { model: path, kind, addedTokens }: TokenizerFiles,
  config: JsonObject,
  isGpt2: boolean | undefined,
): Promise<OpenTokenizer & Utf8TokenizerModel> {
  try {
    if (kind === 'json') return new JsonTokenizer(await readJsonObject(path), config, isGpt2);
    const tokenizer = await loadSentencePiece(path, { specialTokens: specialTokensOf(config) });
    refuseAddedTokens(tokenizer, config, addedTokens === undefined ? {} : await readJsonObject(addedTokens));
    return tokenizer;
  } catch (error) {
    // What is wrong with reading a file names it already.
    throw error instanceof KotodamaError && !error.message.includes(path) ? placed(path, error) : error;
  }
}

function specialTokensOf(config: JsonObject): SpecialTokens {
  const names = ['bos', 'eos', 'pad', 'unk'] as const;
  return Object.fromEntries(
    names.map((name) => [name, specialToken(config, `${name}_token`)]).filter(([, token]) => token !== undefined),
  );
}

/** @throws KotodamaError `ERR_OPTIONS` */
function checkConfig(config: unknown): void {
  checkArgument(isRecord(config), 'the content of tokenizer_config.json', 'an object', config);
}
