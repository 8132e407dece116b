import { ENCODINGS, type Encoding } from '../../data/sources/encoding.js';
import type { Texts } from '../../data/sources/iterable-source.js';
import type { KotodamaError } from '../../errors.js';
import { type OptionTable, readOption } from '../../option-table.js';
import { describe, OptionReader } from '../../validate.js';
import { CHARACTER_OF_BYTE } from '../byte-level/byte-alphabet.js';

/** How far the training of a tokenizer is. */
export type TokenizerProgress =
  /** The text is read: bytes so far, as UTF-8 without line ends, and the different words in them. */
  | { phase: 'count'; bytes: number; distinctWords: number }
  /** BPE: tokens are learned; the vocabulary has `tokens` of the `vocabSize` that were asked for. */
  | { phase: 'merge'; tokens: number; vocabSize: number }
  /** Unigram: the worst pieces are left out; `pieces` remain, in the end `vocabSize`. */
  | { phase: 'prune'; pieces: number; vocabSize: number };

/** Options of `trainTokenizer`. */
export interface TrainTokenizerOptions {
  /** Files, patterns, URLs, or `-` for the standard input, as `BlockDataset.fromFile` reads them; this or `texts`. */
  files?: string | readonly string[] | undefined;
  /** Field or column of `files` that holds the text, where there are fields. Default `text`. */
  textField?: string | undefined;
  /** What `files` are in, but Parquet ones. Default `utf-8`. */
  encoding?: Encoding | undefined;
  /** Whether a line of plain text keeps its end, as `\n`, as in `BlockDataset.fromFile`. Default false. */
  keepLinebreaks?: boolean | undefined;
  /**
   * Leaves bad records out instead of ending the training: lines that are not in the encoding or not JSON, records without text. A
   * function hears of each one. Default false.
   */
  skipBad?: boolean | ((problem: KotodamaError) => void) | undefined;
  /** Texts from memory or anything that can be iterated; this or `files`. Read once. */
  texts?: Texts | undefined;
  /**
   * `bpe`: byte-level BPE as GPT-2 has it, in tokenizer.json. `unigram`: a SentencePiece unigram model, in spiece.model.
   * Default `bpe`.
   */
  type?: 'bpe' | 'unigram' | undefined;
  /** Ids in the vocabulary: special tokens, bytes and characters included. */
  vocabSize: number;
  /**
   * Tokens that stand for no text. For BPE they get the first ids, the first one is begin and end of text, and where the
   * text spells them they are left out; default `['<|endoftext|>']`. For unigram they come after `<pad>`, `<unk>`, `<s>`
   * and `</s>`; default none.
   */
  specialTokens?: readonly string[] | undefined;
  /** BPE: a pair of tokens that occurs less often does not become a token. Default 2. */
  minFrequency?: number | undefined;
  /**
   * Unigram: what happens to text first. `nmt_nfkc`: Unicode's NFKC (full-width letters and half-width kana become the usual
   * ones), control characters removed, other white space as a space. `identity`: nothing. Default `nmt_nfkc`.
   */
  normalizer?: 'nmt_nfkc' | 'identity' | undefined;
  /** Unigram: share of the text that the characters of the vocabulary make up; the rarest are left out. Default 0.9995. */
  characterCoverage?: number | undefined;
  /** Unigram: whether characters that are left out are encoded as their bytes, with 256 pieces more. Default false. */
  byteFallback?: boolean | undefined;
  /** Unigram: whether a text is encoded as if a space came before it, so that its first word is one like others. Default true. */
  addDummyPrefix?: boolean | undefined;
  /** Called some times a second. */
  onProgress?: ((progress: TokenizerProgress) => void) | undefined;
  /** Ends the training with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined;
}

/** The options that the command line has too. */
export const TOKENIZER_OPTIONS = {
  type: {
    kind: 'choice',
    choices: ['bpe', 'unigram'],
    default: 'bpe',
    help: "bpe: GPT-2's kind, tokenizer.json; unigram: SentencePiece's, spiece.model",
  },
  textField: {
    kind: 'string',
    placeholder: 'NAME',
    derived: 'text',
    help: 'field or column that holds the text, in .jsonl and .parquet files',
  },
  encoding: { kind: 'choice', choices: ENCODINGS, default: 'utf-8', help: 'what text and JSON files are in' },
  keepLinebreaks: { kind: 'boolean', default: false, help: 'lines of text keep their ends, as in training' },
  vocabSize: { kind: 'integer', range: { min: 1, max: 1_000_000 }, help: 'ids in the vocabulary' },
  specialTokens: {
    kind: 'strings',
    placeholder: 'TOKEN...',
    derived: '<|endoftext|>; for unigram none',
    help: 'tokens that stand for no text; unigram has <pad> <unk> <s> </s> before them',
  },
  minFrequency: {
    kind: 'integer',
    range: { min: 1 },
    default: 2,
    help: 'bpe: a rarer pair of tokens does not become a token',
  },
  normalizer: {
    kind: 'choice',
    choices: ['nmt_nfkc', 'identity'],
    default: 'nmt_nfkc',
    help: 'unigram: what happens to text first',
  },
  characterCoverage: {
    kind: 'number',
    range: { above: 0, max: 1 },
    default: 0.9995,
    help: 'unigram: share of the text that characters of the vocabulary make up',
  },
  byteFallback: { kind: 'boolean', default: false, help: 'unigram: other characters are encoded as bytes' },
  addDummyPrefix: {
    kind: 'boolean',
    default: true,
    help: 'unigram: a text begins as if a space came before it; without: --add-dummy-prefix=false',
  },
} as const satisfies OptionTable;

/** What training a byte-level BPE depends on. */
export interface BpeSettings {
  type: 'bpe';
  vocabSize: number;
  specialTokens: string[];
  minFrequency: number;
}

/** What training a unigram model depends on. */
export interface UnigramSettings {
  type: 'unigram';
  vocabSize: number;
  /** Those after the usual ones. */
  specialTokens: string[];
  normalizer: 'nmt_nfkc' | 'identity';
  characterCoverage: number;
  byteFallback: boolean;
  addDummyPrefix: boolean;
}

/** Pieces that every unigram model begins with, in the order of their ids. */
export const UNIGRAM_SPECIAL_TOKENS = ['<pad>', '<unk>', '<s>', '</s>'] as const;

/** Options that say how files are read. */
const OF_FILES = ['textField', 'encoding', 'keepLinebreaks'] as const;

const UNIGRAM_ONLY = ['normalizer', 'characterCoverage', 'byteFallback', 'addDummyPrefix'] as const;

/** Reads the options that a tokenizer depends on; problems are noted in `reader`. */
export function readTokenizerOptions(reader: OptionReader): BpeSettings | UnigramSettings {
  const read = (name: keyof typeof TOKENIZER_OPTIONS) => readOption(reader, name, TOKENIZER_OPTIONS[name]);
  const type = read('type') as 'bpe' | 'unigram';
  const vocabSize = reader.integer('vocabSize', TOKENIZER_OPTIONS.vocabSize.range);
  for (const name of type === 'bpe' ? UNIGRAM_ONLY : (['minFrequency'] as const)) {
    if (reader.has(name)) reader.problem(name, `nothing with the type ${type}`, reader.values[name]);
  }
  for (const name of OF_FILES) read(name);
  if (type === 'unigram') {
    const settings = {
      ...{ type, vocabSize, specialTokens: readSpecialTokens(reader, []) },
      normalizer: read('normalizer') as UnigramSettings['normalizer'],
      characterCoverage: read('characterCoverage') as number,
      byteFallback: read('byteFallback') as boolean,
      addDummyPrefix: read('addDummyPrefix') as boolean,
    };
    checkUnigram(reader, settings);
    if (reader.values.keepLinebreaks === true && settings.normalizer === 'nmt_nfkc') {
      reader.problem('keepLinebreaks', 'nothing with the normalizer nmt_nfkc, which makes spaces of line breaks', true);
    }
    return settings;
  }
  const specialTokens = readSpecialTokens(reader, ['<|endoftext|>']);
  const least = CHARACTER_OF_BYTE.length + specialTokens.length;
  if (vocabSize < least) {
    reader.problem('vocabSize', `at least ${least}: 256 bytes and the special tokens`, vocabSize);
  }
  for (const token of specialTokens) {
    if (CHARACTER_OF_BYTE.includes(token)) {
      reader.problem('specialTokens', 'more than one character: single ones name the bytes', token);
    }
  }
  return { type, vocabSize, specialTokens, minFrequency: read('minFrequency') as number };
}

function readSpecialTokens(reader: OptionReader, usual: string[]): string[] {
  const given = reader.values.specialTokens;
  const none = Array.isArray(given) && given.length === 0;
  const specialTokens = none ? [] : reader.strings('specialTokens', usual);
  for (const [index, token] of specialTokens.entries()) {
    if (specialTokens.indexOf(token) !== index) reader.problem('specialTokens', 'each token once', token);
  }
  return specialTokens;
}

function checkUnigram(reader: OptionReader, { specialTokens, vocabSize, byteFallback }: UnigramSettings): void {
  for (const token of specialTokens) {
    const isTaken = (UNIGRAM_SPECIAL_TOKENS as readonly string[]).includes(token) || /^<0x[0-9A-F]{2}>$/.test(token);
    if (isTaken) reader.problem('specialTokens', 'tokens that are not there already', token);
    if (token.includes('\0')) reader.problem('specialTokens', 'tokens without NUL', token);
  }
  const least = UNIGRAM_SPECIAL_TOKENS.length + specialTokens.length + (byteFallback ? 256 : 0) + 1;
  if (vocabSize < least) reader.problem('vocabSize', `at least ${least}: the special tokens and one piece`, vocabSize);
}

/**
 * Checks the options of `trainTokenizer`.
 *
 * @throws KotodamaError `ERR_OPTIONS` that lists every problem
 */
export function checkTokenizerOptions(options: TrainTokenizerOptions): BpeSettings | UnigramSettings {
  const { files, texts, skipBad = false, onProgress, signal, ...rest } = options ?? {};
  const reader = new OptionReader(rest);
  reader.onlyKnown(Object.keys(TOKENIZER_OPTIONS));
  if ((files === undefined) === (texts === undefined)) {
    reader.problem('files, texts', 'one of the two', files === undefined ? 'neither' : 'both');
  }
  for (const name of texts === undefined ? [] : OF_FILES) {
    if (reader.has(name)) reader.problem(name, 'nothing without files', rest[name]);
  }
  const paths: readonly unknown[] = Array.isArray(files) ? files : [files];
  if (paths.length === 0) reader.problem('files', 'at least one file', files);
  if (files !== undefined && !paths.every((path) => typeof path === 'string')) {
    reader.problem('files', 'a path, or a list of paths', files);
  }
  if (typeof skipBad !== 'boolean' && typeof skipBad !== 'function') {
    reader.problem('skipBad', 'true, false or a function', skipBad);
  }
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
