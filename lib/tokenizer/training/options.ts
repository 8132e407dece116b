import type { Texts } from '../../data/sources/iterable-source.js';
import type { OptionTable } from '../../option-table.js';
import { describe, OptionReader } from '../../validate.js';
import { CHARACTER_OF_BYTE } from '../byte-level/byte-alphabet.js';

/** How far the training of a tokenizer is. */
export type TokenizerProgress =
  /** The text is read: bytes so far, as UTF-8 without line ends, and the different pre-tokens in them. */
  | { phase: 'count'; bytes: number; distinctWords: number }
  /** Tokens are learned; the vocabulary has `tokens` of the `vocabSize` that were asked for. */
  | { phase: 'merge'; tokens: number; vocabSize: number };

/** Options of `trainTokenizer`. */
export interface TrainTokenizerOptions {
  /** Files, patterns, URLs, or `-` for the standard input, as `BlockDataset.fromFile` reads them; this or `texts`. */
  files?: string | readonly string[];
  /** Field or column of `files` that holds the text, where there are fields. Default `text`. */
  textField?: string;
  /** Texts from memory or anything that can be iterated; this or `files`. Read once. */
  texts?: Texts;
  /** Ids in the vocabulary, the special tokens and the 256 bytes included. */
  vocabSize: number;
  /**
   * Tokens that stand for no text. They get the first ids; the first one is begin and end of text. Where the text spells
   * them they are left out. Default `['<|endoftext|>']`.
   */
  specialTokens?: readonly string[];
  /** A pair of tokens that occurs less often does not become a token. Default 2. */
  minFrequency?: number;
  /** Called some times a second. */
  onProgress?: (progress: TokenizerProgress) => void;
  /** Ends the training with `ERR_ABORTED`. */
  signal?: AbortSignal;
}

/** The options that the command line has too. */
export const TOKENIZER_OPTIONS = {
  textField: {
    kind: 'string',
    placeholder: 'NAME',
    derived: 'text',
    help: 'field or column that holds the text, in .jsonl and .parquet files',
  },
  vocabSize: { kind: 'integer', range: { min: 256, max: 1_000_000 }, help: 'ids in the vocabulary' },
  specialTokens: {
    kind: 'strings',
    placeholder: 'TOKEN...',
    derived: '<|endoftext|>',
    help: 'tokens that stand for no text; the first one is begin and end of text',
  },
  minFrequency: {
    kind: 'integer',
    range: { min: 1 },
    default: 2,
    help: 'a rarer pair of tokens does not become a token',
  },
} as const satisfies OptionTable;

/** What {@link checkTokenizerOptions} found. */
export interface CheckedTokenizerOptions {
  textField: string | undefined;
  vocabSize: number;
  specialTokens: string[];
  minFrequency: number;
}

/** Reads the options that a tokenizer depends on; problems are noted in `reader`. */
export function readTokenizerOptions(reader: OptionReader): CheckedTokenizerOptions {
  const { vocabSize, minFrequency } = TOKENIZER_OPTIONS;
  const given = reader.values.specialTokens;
  const none = Array.isArray(given) && given.length === 0;
  const specialTokens = none ? [] : reader.strings('specialTokens', ['<|endoftext|>']);
  const size = reader.integer('vocabSize', vocabSize.range);
  const least = CHARACTER_OF_BYTE.length + specialTokens.length;
  if (size < least) {
    reader.problem('vocabSize', `at least ${least}: 256 bytes and the special tokens`, size);
  }
  for (const [index, token] of specialTokens.entries()) {
    if (specialTokens.indexOf(token) !== index) reader.problem('specialTokens', 'each token once', token);
    if (CHARACTER_OF_BYTE.includes(token)) {
      reader.problem('specialTokens', 'more than one character: single ones name the bytes', token);
    }
  }
  return {
    textField: reader.string('textField', undefined),
    vocabSize: size,
    specialTokens,
    minFrequency: reader.integer('minFrequency', minFrequency.range, minFrequency.default),
  };
}

/**
 * Checks the options of `trainTokenizer`.
 *
 * @throws KotodamaError `ERR_OPTIONS` that lists every problem
 */
export function checkTokenizerOptions(options: TrainTokenizerOptions): CheckedTokenizerOptions {
  const { files, texts, onProgress, signal, ...rest } = options ?? {};
  const reader = new OptionReader(rest);
  reader.onlyKnown(Object.keys(TOKENIZER_OPTIONS));
  if ((files === undefined) === (texts === undefined)) {
    reader.problem('files, texts', 'one of the two', files === undefined ? 'neither' : 'both');
  }
  if (texts !== undefined && reader.has('textField'))
    reader.problem('textField', 'nothing without files', rest.textField);
  if (Array.isArray(files) && files.length === 0) reader.problem('files', 'at least one file', files);
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    reader.problem('onProgress', 'a function', onProgress);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    reader.problem('signal', 'an AbortSignal', describe(signal));
  }
  const checked = readTokenizerOptions(reader);
  reader.finish('The options of trainTokenizer are not valid');
  return checked;
}
