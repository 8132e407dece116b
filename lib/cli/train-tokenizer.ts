import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ENCODINGS, type Encoding } from '../data/sources/encoding.js';
import type { KotodamaError } from '../errors.js';
import type { OptionTable } from '../option-table.js';
import { bytes, count, duration } from '../report/format.js';
import { LiveLine } from '../report/live-line.js';
import { type TokenizerProgress, type TrainedTokenizer, trainTokenizer } from '../tokenizer/training/index.js';
import {
  type BpeSettings,
  readTokenizerOptions,
  TOKENIZER_OPTIONS,
  UNIGRAM_SPECIAL_TOKENS,
  type UnigramSettings,
} from '../tokenizer/training/options.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { BadRecords } from './data.js';
import { catchInterrupt } from './interrupt.js';
import { flagOf, lookAt, parseFlags, READING, requireFiles, requireOptions } from './options.js';
import { shellWord } from './shell.js';

/** `kotodama train-tokenizer` */
const TRAIN_TOKENIZER_OPTIONS = {
  input: {
    kind: 'strings',
    placeholder: 'FILE...',
    help: 'texts to learn from: .txt, .jsonl, .parquet, .gz, .zst, patterns, URLs, -',
  },
  out: { kind: 'string', placeholder: 'DIR', help: "the tokenizer's folder" },
  ...TOKENIZER_OPTIONS,
  skipBad: READING.skipBad,
} as const satisfies OptionTable;

interface TrainTokenizerArguments {
  input: string[];
  out: string;
  textField: string | undefined;
  encoding: Encoding;
  keepLinebreaks: boolean;
  skipBad: boolean;
  settings: BpeSettings | UnigramSettings;
}

/** Seconds between two lines where there is no terminal. */
const INTERVAL = 10;

export const trainTokenizerCommand: Command = {
  summary: 'makes a tokenizer (byte-level BPE or SentencePiece unigram) for your text',
  usage: 'train-tokenizer --input FILE... --vocab-size N --out DIR [options]',
  options: TRAIN_TOKENIZER_OPTIONS,
  examples: [
    'kotodama train-tokenizer --input data/train.txt --vocab-size 8000 --out tokenizer',
    'kotodama train-tokenizer --input data/train.txt --vocab-size 32000 --type unigram --out tokenizer',
  ],
  async run(words) {
    const { input, out, textField, encoding, keepLinebreaks, skipBad, settings } = readArguments(words);
    const progress = new ProgressLine();
    const bad = new BadRecords();
    const interrupt = catchInterrupt(() => {});
    try {
      const { signal } = interrupt;
      const onProgress = (event: TokenizerProgress) => progress.show(event);
      const note = (problem: KotodamaError) => {
        progress.end();
        bad.note(problem);
      };
      const text = { files: input, skipBad: skipBad && note, textField, encoding, keepLinebreaks };
      const trained = await trainTokenizer({ ...settings, ...text, signal, onProgress });
      progress.end();
      bad.end();
      await trained.save(out);
      process.stderr.write(summary(trained, settings, progress, out));
      return 0;
    } finally {
      progress.end();
      interrupt[Symbol.dispose]();
      // Whoever still types or pipes text would keep the program waiting after Ctrl-C.
      if (input.includes('-')) process.stdin.destroy();
    }
  },
};

function readArguments(words: readonly string[]): TrainTokenizerArguments {
  const table: OptionTable = TRAIN_TOKENIZER_OPTIONS;
  const reader = new OptionReader(parseFlags(words, table), flagOf);
  reader.onlyKnown(Object.keys(table), {}, 'kotodama train-tokenizer --help lists them');
  requireOptions(reader, table, ['input', 'out']);
  const input = reader.strings('input', []);
  requireFiles(reader, 'input', input);
  const out = reader.string('out', '');
  checkFolder(reader, out);
  const settings = readTokenizerOptions(reader);
  const textField = reader.string('textField', undefined);
  const encoding = reader.choice('encoding', ENCODINGS, 'utf-8');
  const keepLinebreaks = reader.boolean('keepLinebreaks', false);
  const skipBad = reader.boolean('skipBad', false);
  reader.finish('The options of kotodama train-tokenizer are not valid');
  return { input, out, textField, encoding, keepLinebreaks, skipBad, settings };
}

/** Better now than after minutes of work; and a model may depend on the tokenizer that would be replaced. */
function checkFolder(reader: OptionReader, out: string): void {
  const found = lookAt(reader, 'out', out);
  if (found === undefined || found === 'nothing') return;
  if (!found.isDirectory()) reader.problem('out', 'a folder', out);
  const taken = ['tokenizer.json', 'spiece.model'].find((name) => existsSync(join(out, name)));
  if (taken !== undefined) {
    reader.problem('out', 'a folder without a tokenizer', out, `choose another one, or remove its ${taken}`);
  }
}

/** Shows how far it is: on a terminal one live line, elsewhere a line now and then. */
class ProgressLine {
  /** What the last event about reading said. */
  read = { bytes: 0, distinctWords: 0 };
  private readonly line = new LiveLine(process.stderr);
  private readonly began = performance.now();
  private shown = Number.NEGATIVE_INFINITY;

  get seconds(): number {
    return (performance.now() - this.began) / 1000;
  }

  show(event: TokenizerProgress): void {
    if (event.phase === 'count') this.read = event;
    const text = describeProgress(event);
    if (this.line.terminal) this.line.live(this.line.fitted(text));
    else if (this.seconds - this.shown >= INTERVAL) {
      this.shown = this.seconds;
      this.line.lasting(text);
    }
  }

  /** Removes the live line, so that other text can follow. */
  end(): void {
    this.line.clear();
  }
}

function describeProgress(event: TokenizerProgress): string {
  if (event.phase === 'count') {
    return `reading: ${bytes(event.bytes)}, ${count(event.distinctWords)} different words`;
  }
  if (event.phase === 'merge') return `learning: ${event.tokens} of ${event.vocabSize} ids`;
  return `learning: ${event.pieces} pieces left, ${event.vocabSize} wanted`;
}

function summary(
  { vocabSize, files }: TrainedTokenizer,
  settings: BpeSettings | UnigramSettings,
  { read, seconds }: ProgressLine,
  out: string,
): string {
  const special = settings.specialTokens.length + (settings.type === 'bpe' ? 0 : UNIGRAM_SPECIAL_TOKENS.length);
  const byteIds = settings.type === 'bpe' || settings.byteFallback ? 256 : 0;
  const learned = vocabSize - special - byteIds;
  const why =
    settings.type === 'bpe'
      ? `no other pair of tokens occurs ${settings.minFrequency} times`
      : 'no other piece repeats';
  return [
    `vocabulary  ${vocabSize} ids: ${special} special, ${byteIds > 0 ? '256 bytes, ' : ''}${learned} ${settings.type === 'bpe' ? 'merges' : 'pieces'}`,
    ...(vocabSize < settings.vocabSize
      ? [`            ${settings.vocabSize - vocabSize} ids fewer than asked for: ${why}`]
      : []),
    `text        ${bytes(read.bytes)}, ${count(read.distinctWords)} different words, ${duration(seconds)}`,
    `written to  ${join(out, Object.keys(files).at(-1) as string)}`,
    `next: kotodama train --tokenizer ${shellWord(out)} --train FILE... --out runs/a`,
    '',
  ].join('\n');
}
