import { availableParallelism } from 'node:os';
import { checkOutput, writeTokenFiles } from '../data/token-file-writer.js';
import { bytes, count, duration } from '../report/format.js';
import { LiveLine } from '../report/live-line.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { BadRecords, type Reading, textBlocks } from './data.js';
import { showDownloads } from './download.js';
import { catchInterrupt } from './interrupt.js';
import {
  flagOf,
  parseFlags,
  readOptions,
  requireFiles,
  requireOptions,
  requireSaved,
  TOKENIZE_OPTIONS,
} from './options.js';

interface TokenizeArguments extends Reading {
  tokenizer: string;
  input: string[];
  output: string;
  shardTokens?: number;
  numWorkers?: number;
}

/** Milliseconds between two reports: on a terminal, and elsewhere. */
const REPORT_EVERY = { terminal: 200, elsewhere: 10_000 };

export const tokenize: Command = {
  summary: 'turns text into token files, which train reads directly',
  usage: 'tokenize --tokenizer DIR --input FILE... --output FILE.bin [options]',
  options: TOKENIZE_OPTIONS,
  examples: [
    'kotodama tokenize --tokenizer DIR --input data/train.txt --output data/train.bin',
    "kotodama tokenize --tokenizer DIR --input 'data/*.jsonl.gz' --eos document --output data/train.bin --shard-tokens 100000000",
  ],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, TOKENIZE_OPTIONS), flagOf);
    const options = readOptions(reader, TOKENIZE_OPTIONS, 'tokenize') as unknown as TokenizeArguments;
    requireOptions(reader, TOKENIZE_OPTIONS, ['tokenizer', 'input', 'output']);
    requireSaved(reader, 'tokenizer', 'tokenizer', options.tokenizer);
    requireFiles(reader, 'input', options.input ?? []);
    reader.finish('The options of kotodama tokenize are not valid');
    const { input, output, shardTokens, numWorkers = availableParallelism() } = options;
    checkOutput(output, shardTokens !== undefined);

    const tokenizer = await Tokenizer.fromPretrained(options.tokenizer, showDownloads());
    const bad = new BadRecords();
    // Blocks play no part here.
    const dataset = textBlocks(input, { ...options, tokenizer, blockSize: 1, bad }, { dropLast: false });
    const line = new LiveLine(process.stderr);
    using interrupt = catchInterrupt(() => line.lasting('stopping; no file is kept'));
    const { signal } = interrupt;
    const begun = performance.now();
    const report = progress(begun, line);
    const files = await writeTokenFiles(dataset.tokens({ numWorkers, signal }), {
      ...{ output, tokenizer, shardTokens, sources: input },
      onProgress: (tokens) => report(tokens, dataset.textBytes),
    }).finally(() => line.clear());
    const tokens = files.reduce((sum, file) => sum + file.tokens, 0);
    const took = duration((performance.now() - begun) / 1000);
    line.lasting(`${tokens} tokens (${files[0]?.dtype}) of ${bytes(dataset.textBytes)} of text in ${took}`);
    bad.end();
    process.stdout.write(files.map(({ path }) => `${path}\n`).join(''));
    return 0;
  },
};

/** Shows now and then how far it is. */
function progress(begun: number, line: LiveLine): (tokens: number, textBytes: number) => void {
  const every = line.terminal ? REPORT_EVERY.terminal : REPORT_EVERY.elsewhere;
  let last = begun;
  return (tokens, textBytes) => {
    const now = performance.now();
    if (now - last < every) return;
    last = now;
    const perSecond = tokens / ((now - begun) / 1000);
    const text = `${count(tokens)} tokens of ${bytes(textBytes)} of text, ${count(perSecond)} tokens/s`;
    if (line.terminal) line.live(line.fitted(text));
    else line.lasting(text);
  };
}
