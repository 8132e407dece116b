import { existsSync, readFileSync, type Stats, statSync } from 'node:fs';
import { ENCODINGS } from '../data/sources/encoding.js';
import { filesMatching, isPattern } from '../data/sources/glob.js';
import { KotodamaError, messageOf } from '../errors.js';
import { reasonOf } from '../files.js';
import { hubHint, parseHubId } from '../hub/hub-id.js';
import { parseJson } from '../json.js';
import { DEVICE_NAMES, isDeviceName } from '../model/device.js';
import { type OptionTable, readOption } from '../option-table.js';
import { DASHBOARD_PORT } from '../report/dashboard/address.js';
import { TRAINING_OPTIONS } from '../train/options.js';
import { describe, OptionReader } from '../validate.js';

/** Options by their API name, still unchecked. */
export type RawOptions = { [name: string]: unknown };

const TEXT_FILES = { kind: 'strings', placeholder: 'FILE...' } as const;

const MODEL_FOLDER = {
  kind: 'string',
  placeholder: 'DIR',
  help: "a model: a run, another folder, a name of the Hub (owner/name), or llm.c's .bin",
} as const;

const TOKENIZER_FOLDER = {
  kind: 'string',
  placeholder: 'DIR',
  help: 'a tokenizer: a folder, or a name of the Hub',
} as const;

const ENGINE = {
  device: { kind: 'string', placeholder: 'DEVICE', default: 'auto', help: 'auto, cpu, cuda or cuda:N' },
  threads: { kind: 'integer', range: { min: 1, max: 1024 }, derived: 'all cores', help: 'CPU threads' },
} as const satisfies OptionTable;

const seed = { kind: 'integer', range: { min: 0 }, default: 0 } as const;
const size = { min: 1 };

const DASHBOARD_HOST = {
  dashboardHost: {
    ...{ kind: 'string', placeholder: 'HOST', default: '127.0.0.1' },
    help: 'address the dashboard listens on; 0.0.0.0 lets other machines in',
  },
} as const satisfies OptionTable;

const LINES = {
  encoding: {
    kind: 'choice',
    choices: ENCODINGS,
    default: 'utf-8',
    fixed: true,
    help: 'what text and JSON files are in',
  },
  keepLinebreaks: {
    kind: 'boolean',
    default: false,
    fixed: true,
    help: 'lines of text keep their ends, so that the model learns to break lines',
  },
} as const satisfies OptionTable;

const EOS = {
  kind: 'choice',
  choices: ['none', 'line', 'document'],
  fixed: true,
  help: 'end-of-text token after each line, record or text file',
} as const;

/** How texts are read from files. */
export const READING = {
  textField: {
    kind: 'string',
    placeholder: 'NAME',
    derived: 'text',
    fixed: true,
    help: 'field of JSON lines, column of Parquet, that holds the text',
  },
  ...LINES,
  eos: { ...EOS, default: 'none' },
  skipBad: {
    kind: 'boolean',
    default: false,
    help: 'leave out lines that are not in the encoding, not JSON or without text',
  },
} as const satisfies OptionTable;

/** How texts are read from files where some may be prompts. */
const READING_PROMPTS = {
  textField: READING.textField,
  promptField: {
    kind: 'string',
    placeholder: 'NAME',
    derived: 'none',
    fixed: true,
    help: 'field or column of prompts, read before the text and not learned',
  },
  ...LINES,
  eos: { ...EOS, derived: 'none, with prompts document' },
  skipBad: READING.skipBad,
} as const satisfies OptionTable;

/** `kotodama train`: flag, API option and key of a configuration file in one. */
export const TRAIN_OPTIONS = {
  train: { ...TEXT_FILES, help: "texts to learn: .txt, .jsonl, .parquet, .gz, .zst, '*.txt', URLs, -" },
  valid: { ...TEXT_FILES, help: 'texts to measure the model on' },
  ...READING_PROMPTS,
  tokenizer: { ...TOKENIZER_FOLDER, derived: 'that of --init-from' },
  out: { kind: 'string', placeholder: 'DIR', help: "the run's folder" },
  config: { kind: 'string', placeholder: 'FILE', help: 'options as JSON, such as {"nLayer": 6}; flags win' },
  resume: { kind: 'boolean', default: false, help: 'continue the run in --out; other options may be left out' },
  initFrom: {
    ...MODEL_FOLDER,
    fixed: true,
    help: "weights to begin with (fine-tuning): a folder, a name of the Hub, or llm.c's .bin",
  },
  nLayer: { kind: 'integer', range: size, derived: '12', fixed: true, help: 'layers' },
  nHead: { kind: 'integer', range: size, derived: '12', fixed: true, help: 'attention heads per layer' },
  nEmbd: { kind: 'integer', range: size, derived: '768', fixed: true, help: 'width' },
  blockSize: {
    kind: 'integer',
    range: size,
    derived: '1024, or the context of --init-from',
    fixed: true,
    help: 'tokens per block, and context of the model',
  },
  dropout: {
    kind: 'number',
    range: { min: 0, below: 1 },
    derived: '0, or that of --init-from',
    fixed: true,
    help: 'dropout of embedding, attention and residual',
  },
  batchSize: { kind: 'integer', range: size, default: 3, fixed: true, help: 'blocks per micro-batch' },
  ...TRAINING_OPTIONS,
  shuffleBuffer: {
    kind: 'integer',
    range: { min: 0 },
    default: 100,
    fixed: true,
    help: 'blocks shuffled among each other (token files: all of them); 0: in order',
  },
  numWorkers: { kind: 'integer', range: { min: 0 }, default: 1, help: 'threads that tokenize; 0: the main one' },
  prefetchFactor: { kind: 'integer', range: size, default: 10, help: 'batches each of them prepares ahead' },
  precision: { kind: 'choice', choices: ['fp32', 'bf16'], default: 'fp32', fixed: true, help: 'arithmetic' },
  stochasticRounding: {
    kind: 'boolean',
    default: false,
    fixed: true,
    help: 'bf16: round the copies of the weights up or down at random',
  },
  ...ENGINE,
  seed: { ...seed, fixed: true, help: 'seeds weights, dropout, shuffling and samples' },
  tensorboard: { kind: 'boolean', default: false, help: 'event files for TensorBoard in OUT/tensorboard' },
  dashboard: {
    ...{ kind: 'integer', range: { min: 0, max: 65535 }, placeholder: '[PORT]', bare: DASHBOARD_PORT },
    help: `watch and steer the run in a browser; without PORT: ${DASHBOARD_PORT}, or a free one`,
  },
  ...DASHBOARD_HOST,
  onEvent: { kind: 'string', placeholder: 'FILE', help: 'module whose default export is called with each event' },
  json: { kind: 'boolean', default: false, help: 'events as JSON lines on stdout' },
} as const satisfies OptionTable;

const RUNS = {
  runs: { kind: 'strings', placeholder: 'DIR...', help: 'runs, or folders of runs; --runs itself may be left out' },
} as const satisfies OptionTable;

/** `kotodama dashboard` */
export const DASHBOARD_OPTIONS = {
  ...RUNS,
  port: {
    ...{ kind: 'integer', range: { min: 0, max: 65535 }, derived: `${DASHBOARD_PORT}, or a free one` },
    help: 'where the page is served',
  },
  ...DASHBOARD_HOST,
} as const satisfies OptionTable;

/** `kotodama report` */
export const REPORT_OPTIONS = {
  ...RUNS,
  out: { kind: 'string', placeholder: 'FILE', default: 'report.html', help: 'page to write' },
} as const satisfies OptionTable;

/** `kotodama generate` */
export const GENERATE_OPTIONS = {
  model: MODEL_FOLDER,
  prompt: { kind: 'string', placeholder: 'TEXT', derived: 'begin of text', help: 'what the text begins with' },
  maxNewTokens: { kind: 'integer', range: size, default: 128, help: 'tokens to write' },
  temperature: { kind: 'number', range: { min: 0 }, default: 0.8, help: 'randomness; 0 takes the likeliest token' },
  topK: { kind: 'integer', range: { min: 0 }, default: 50, help: 'choose among the k likeliest tokens; 0: all' },
  topP: { kind: 'number', range: { above: 0, max: 1 }, default: 1, help: 'choose among the likeliest of this mass' },
  minP: {
    kind: 'number',
    range: { min: 0, max: 1 },
    default: 0,
    help: 'choose among tokens at least X times as likely as the likeliest (0.05: a twentieth)',
  },
  repetitionPenalty: {
    kind: 'number',
    range: { min: 0.01, max: 100 },
    default: 1,
    help: 'above 1: less of the tokens that the text has already',
  },
  stop: { kind: 'strings', placeholder: 'TEXT...', derived: 'none', help: 'end before any of these' },
  seed: { ...seed, help: 'seeds the choices; sample i has seed + i' },
  numSamples: { kind: 'integer', range: size, default: 1, help: 'texts to write' },
  int8: { kind: 'boolean', default: false, help: 'on the CPU: weights of 8 bits; faster, now and then another word' },
  tokenizer: { ...TOKENIZER_FOLDER, derived: "the model's" },
  ...ENGINE,
  json: { kind: 'boolean', default: false, help: 'one JSON object per text' },
} as const satisfies OptionTable;

/** `kotodama evaluate` */
export const EVALUATE_OPTIONS = {
  model: MODEL_FOLDER,
  data: { ...TEXT_FILES, help: 'texts to measure the model on, as --train of kotodama train' },
  ...READING_PROMPTS,
  multipleChoice: {
    kind: 'string',
    placeholder: 'FILE',
    help: 'instead: questions as JSON lines, HellaSwag\'s or {"context", "choices", "answer"}',
  },
  blockSize: { kind: 'integer', range: size, derived: "the model's context", help: 'tokens per block' },
  stride: {
    kind: 'integer',
    range: size,
    derived: 'no overlap',
    help: 'tokens from one block to the next: more exact, slower',
  },
  batchSize: { kind: 'integer', range: size, default: 3, help: 'blocks per batch' },
  limit: { kind: 'integer', range: size, derived: 'all', help: 'measure the first batches, or questions, alone' },
  tokenizer: { ...TOKENIZER_FOLDER, derived: "the model's" },
  ...ENGINE,
  json: { kind: 'boolean', default: false, help: 'one JSON object on stdout' },
} as const satisfies OptionTable;

/** `kotodama explain` */
export const EXPLAIN_OPTIONS = {
  model: MODEL_FOLDER,
  text: { kind: 'string', placeholder: 'TEXT', help: "what the model reads, at most its context's tokens" },
  out: { kind: 'string', placeholder: 'FILE.html', default: 'explain.html', help: 'page to write' },
  topK: { kind: 'integer', range: size, default: 10, help: 'likeliest next tokens to list' },
  layer: { kind: 'integer', range: { min: 0 }, derived: 'all', help: 'attention of this layer alone, from 0' },
  head: { kind: 'integer', range: { min: 0 }, derived: 'all', help: 'attention of this head alone, from 0' },
  tokenizer: { ...TOKENIZER_FOLDER, derived: "the model's" },
  ...ENGINE,
  json: { kind: 'boolean', default: false, help: 'one JSON object on stdout instead of the page' },
} as const satisfies OptionTable;

/** `kotodama export` */
export const EXPORT_OPTIONS = {
  model: MODEL_FOLDER,
  format: {
    kind: 'choice',
    choices: ['gguf', 'llm.c', 'safetensors'],
    help: 'for llama.cpp, for llm.c, or for Transformers',
  },
  out: { kind: 'string', placeholder: 'PATH', help: 'what to write: a file, or with safetensors a folder' },
  dtype: {
    kind: 'choice',
    choices: ['f32', 'f16', 'bf16', 'q8_0'],
    derived: 'f16 for gguf, else f32',
    help: 'what the numbers are stored as; q8_0 in gguf alone',
  },
  maxShardSize: {
    kind: 'string',
    placeholder: 'SIZE',
    derived: 'one file',
    help: 'of safetensors: several files of at most this, such as 5GB or 500MB',
  },
  tokenizer: { ...TOKENIZER_FOLDER, derived: "the model's" },
} as const satisfies OptionTable;

/** `kotodama inspect-data` */
export const INSPECT_DATA_OPTIONS = {
  train: { ...TEXT_FILES, help: 'texts to look at, as --train of kotodama train' },
  ...READING,
  tokenizer: TOKENIZER_FOLDER,
  blockSize: { kind: 'integer', range: size, default: 1024, help: 'tokens per block' },
  shuffleBuffer: { ...TRAIN_OPTIONS.shuffleBuffer, help: 'blocks shuffled among each other; 0: in order' },
  seed: { ...seed, help: 'seeds the shuffling' },
  limit: { kind: 'integer', range: { min: 0 }, placeholder: 'MB', default: 10, help: 'text to measure; 0: all' },
  json: { kind: 'boolean', default: false, help: 'one JSON object on stdout' },
} as const satisfies OptionTable;

/** `kotodama add-tokens` */
export const ADD_TOKENS_OPTIONS = {
  tokenizer: {
    kind: 'string',
    placeholder: 'DIR',
    help: 'the tokenizer to begin with: a folder, or a name of the Hub',
  },
  tokens: { kind: 'strings', placeholder: 'TOKEN...', help: "special tokens to add, such as '<|user|>'" },
  out: { kind: 'string', placeholder: 'DIR', help: "the new tokenizer's folder" },
} as const satisfies OptionTable;

/** `kotodama tokenize` */
export const TOKENIZE_OPTIONS = {
  tokenizer: TOKENIZER_FOLDER,
  input: { ...TEXT_FILES, help: 'texts, as --train of kotodama train' },
  output: { kind: 'string', placeholder: 'FILE.bin', help: 'token file to write' },
  shardTokens: {
    kind: 'integer',
    range: size,
    derived: 'one file',
    help: 'tokens in a file, of several: FILE_000000.bin',
  },
  ...READING,
  numWorkers: { kind: 'integer', range: { min: 0 }, derived: 'one for each core', help: 'threads that tokenize' },
} as const satisfies OptionTable;

/** `kotodama compare` */
export const COMPARE_OPTIONS = {
  json: { kind: 'boolean', default: false, help: 'one JSON object on stdout' },
} as const satisfies OptionTable;

/** `kotodama doctor` */
export const DOCTOR_OPTIONS = {
  json: { kind: 'boolean', default: false, help: 'one JSON object on stdout' },
} as const satisfies OptionTable;

/** `kotodama demo` */
export const DEMO_OPTIONS = {
  out: { kind: 'string', placeholder: 'DIR', derived: 'runs/demo, or the next free name', help: "the run's folder" },
  maxSteps: { kind: 'integer', range: size, default: 3000, help: 'end after this many steps' },
  ...ENGINE,
} as const satisfies OptionTable;

/** `nLayer` as `--n-layer` */
export function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `--n-layer` as `nLayer` */
function nameOf(flag: string): string {
  return flag.replace(/^--/, '').replaceAll(/-+(.)/g, (_, letter: string) => letter.toUpperCase());
}

/**
 * Splits a command line into options: `--flag value`, `--flag=value`, `--switch`, `--switch=false`, `--files a b c`. Values
 * are converted by the table; what does not convert stays a string, which the check then complains about. Unknown flags
 * are kept for the same reason.
 *
 * @param loose the option of kind `strings` that words of no flag belong to, where there is one.
 * @throws KotodamaError `ERR_OPTIONS` for words that belong to no flag and flags without their value.
 */
export function parseFlags(words: readonly string[], table: OptionTable, loose?: string): RawOptions {
  const reader = new OptionReader({}, flagOf);
  const options: RawOptions = {};
  const add = (name: string, values: readonly string[]) => {
    options[name] = [...((options[name] as string[] | undefined) ?? []), ...values];
  };
  let index = 0;
  while (index < words.length) {
    const word = words[index++] as string;
    if (!word.startsWith('--')) {
      const text = table.prompt === undefined ? '' : '; a text to continue follows --prompt';
      const hint = `quote values that hold spaces${text}`;
      if (loose !== undefined) add(loose, [word]);
      else reader.problems.add('arguments', 'only options such as --flag value', describe(word), hint);
      continue;
    }
    const equals = word.indexOf('=');
    const name = nameOf(equals < 0 ? word : word.slice(0, equals));
    const values = equals < 0 ? [] : [word.slice(equals + 1)];
    const kind = table[name]?.kind;
    const most = equals >= 0 || kind === 'boolean' ? 0 : kind === 'strings' ? Number.POSITIVE_INFINITY : 1;
    while (values.length < most && index < words.length && !(words[index] as string).startsWith('--')) {
      values.push(words[index++] as string);
    }
    const [value] = values;
    if (kind === 'strings') add(name, values);
    else if (kind === 'boolean') options[name] = value === undefined || toBoolean(value);
    else if (value === undefined && table[name]?.bare !== undefined) options[name] = table[name].bare;
    else if (value === undefined && kind !== undefined) {
      const next = words[index];
      // What follows is a flag, or a value that looks like one.
      const meant = next !== undefined && table[nameOf(next.split('=', 1)[0] as string)] === undefined;
      const hint = meant ? `a value that begins with -- is given as ${flagOf(name)}=${next}` : undefined;
      reader.problems.add(flagOf(name), 'a value', 'nothing', hint);
    } else options[name] = kind === 'integer' || kind === 'number' ? toNumber(value as string) : (value ?? true);
  }
  reader.finish('The command line is not valid');
  return options;
}

function toBoolean(text: string): boolean | string {
  return text === 'true' ? true : text === 'false' ? false : text;
}

function toNumber(text: string): number | string {
  const number = Number(text);
  return text.trim() === '' || (Number.isNaN(number) && text !== 'NaN') ? text : number;
}

/**
 * Reads a file of options, `{ "nLayer": 6, "train": ["a.txt"] }`, also spelled as flags (`"n-layer"`). One file name may stand
 * without brackets. Unknown names are kept as they are, for the check to complain about.
 *
 * @throws KotodamaError `ERR_OPTIONS` when it is not a JSON object, `ERR_IO` when it cannot be read.
 */
export function readConfigFile(path: string, table: OptionTable): RawOptions {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new KotodamaError('ERR_IO', `${path} could not be read (${messageOf(cause)})`, {
      hint: 'check --config',
      cause,
    });
  }
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw new KotodamaError('ERR_OPTIONS', `${path} is not JSON (${messageOf(cause)})`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new KotodamaError('ERR_OPTIONS', `${path} is not a list of options`, { expected: 'a JSON object' });
  }
  const options: RawOptions = {};
  for (const [key, item] of Object.entries(value as RawOptions)) {
    const name = Object.hasOwn(table, nameOf(key)) ? nameOf(key) : key;
    if (Object.hasOwn(options, name)) {
      throw new KotodamaError('ERR_OPTIONS', `${path} has ${flagOf(name)} in two spellings`, {
        hint: 'keep one of them',
      });
    }
    options[name] = table[name]?.kind === 'strings' && typeof item === 'string' ? [item] : item;
  }
  return options;
}

/** Reads every option of a command's table; problems are noted in the reader. */
export function readOptions(reader: OptionReader, table: OptionTable, command: string): { [name: string]: unknown } {
  reader.onlyKnown(Object.keys(table), {}, `kotodama ${command} --help lists them`);
  const read = Object.fromEntries(Object.entries(table).map(([name, spec]) => [name, readOption(reader, name, spec)]));
  // The engine would say so too, but only once everything else was right and loaded.
  if (
    table.device !== undefined &&
    typeof read.device === 'string' &&
    read.device !== '' &&
    !isDeviceName(read.device)
  ) {
    reader.problem('device', DEVICE_NAMES, read.device);
  }
  return read;
}

/** Notes options that must be there and are not. */
export function requireOptions(reader: OptionReader, table: OptionTable, names: readonly string[]): void {
  for (const name of names) {
    if (!reader.has(name)) reader.problems.add(flagOf(name), table[name]?.placeholder ?? 'a value', 'nothing');
  }
}

/**
 * Notes texts that are missing, or no files.
 *
 * @param source where the names are from, if the person did not give them now
 */
export function requireFiles(reader: OptionReader, name: string, paths: readonly string[], source?: string): void {
  const found = (path: string) => (source === undefined ? path : `${path}, ${source}`);
  for (const path of paths) {
    if (path === '-' || /^https?:/i.test(path)) continue;
    if (isPattern(path)) {
      requireMatch(reader, name, path, found(path));
      continue;
    }
    const stats = lookAt(reader, name, path);
    // The whole path, however long: its end is what tells files apart.
    if (stats === 'nothing') reader.problems.add(flagOf(name), 'a file that exists', found(path));
    else if (stats?.isDirectory())
      reader.problems.add(flagOf(name), 'a file', `${path}, a folder`, `try '${path}/*.txt'`);
  }
}

/** Notes a model or a tokenizer that is not there and can be no name of the Hub; a model may be one file. */
export function requireSaved(reader: OptionReader, name: string, what: 'model' | 'tokenizer', place = ''): void {
  if (place === '' || (parseHubId(place) !== undefined && !existsSync(place))) return;
  const found = lookAt(reader, name, place);
  if (found === 'nothing') {
    const expected = 'a folder that exists, or a name of the Hub';
    reader.problems.add(flagOf(name), expected, place, hubHint(what, place));
  } else if (what === 'tokenizer' && found?.isDirectory() === false) {
    const hint = 'give the folder that holds tokenizer.json or the SentencePiece model';
    reader.problems.add(flagOf(name), 'a folder', `${place}, a file`, hint);
  }
}

function requireMatch(reader: OptionReader, name: string, pattern: string, found: string): void {
  try {
    if (filesMatching(pattern).length === 0) reader.problems.add(flagOf(name), 'a pattern that matches files', found);
  } catch (error) {
    if (!(error instanceof KotodamaError && error.code === 'ERR_IO')) throw error;
    reader.problems.add(flagOf(name), 'a pattern of files that can be read', `${pattern}, ${reasonOf(error.cause)}`);
  }
}

/** What is at a path. Where the system refuses to say, that is noted as a problem. */
export function lookAt(reader: OptionReader, name: string, path: string): Stats | 'nothing' | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false }) ?? 'nothing';
  } catch (error) {
    reader.problems.add(flagOf(name), 'a path that can be read', `${path}, ${reasonOf(error)}`);
    return undefined;
  }
}

/** The lines of `--help` about a table. */
export function describeOptions(table: OptionTable): string {
  const rows = Object.entries(table).map(([name, spec]) => {
    const number = spec.kind === 'integer' ? 'N' : spec.kind === 'number' ? 'X' : '';
    const value = spec.kind === 'choice' ? spec.choices.join('|') : (spec.placeholder ?? number);
    const fallback = spec.derived ?? (spec.default === false || spec.default === '' ? undefined : spec.default);
    const help = spec.help + (fallback === undefined ? '' : ` [${fallback}]`);
    return [`  ${flagOf(name)} ${value}`.trimEnd(), help] as const;
  });
  const width = Math.min(34, Math.max(...rows.map(([flag]) => flag.length)));
  return rows
    .map(([flag, help]) =>
      (flag.length > width ? `${flag}\n${' '.repeat(width)}` : flag.padEnd(width)).concat(`  ${help}`),
    )
    .join('\n');
}
