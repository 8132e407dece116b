import { bytes, count } from '../report/format.js';
import { LiveLine } from '../report/live-line.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { areTokenFiles, BadRecords, type Reading, textBlocks } from './data.js';
import { type DataStatistics, measureShuffle, measureTexts, type ShuffleStatistics } from './data-statistics.js';
import { showDownloads } from './download.js';
import { flagOf, INSPECT_DATA_OPTIONS, parseFlags, readOptions, requireFiles, requireOptions } from './options.js';
import { bars, printable, shades, shorten } from './text-picture.js';

interface InspectDataArguments extends Reading {
  train: string[];
  tokenizer: string;
  blockSize: number;
  shuffleBuffer: number;
  seed: number;
  limit: number;
  json: boolean;
}

/** Enough to see how texts follow each other within a block, and blocks each other. */
const SHOWN_BLOCKS = 3;

const PICTURE = { rows: 20, columns: 60 };

export const inspectData: Command = {
  summary: 'shows what the training would read: blocks, tokens, lengths, order',
  usage: 'inspect-data --train FILE... --tokenizer DIR [options]',
  options: INSPECT_DATA_OPTIONS,
  examples: ['kotodama inspect-data --train data/train.txt --tokenizer DIR --block-size 512'],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, INSPECT_DATA_OPTIONS), flagOf);
    const options = readOptions(reader, INSPECT_DATA_OPTIONS, 'inspect-data') as unknown as InspectDataArguments;
    requireOptions(reader, INSPECT_DATA_OPTIONS, ['train', 'tokenizer']);
    requireFiles(reader, 'train', options.train ?? []);
    if (reader.has('train') && areTokenFiles(options.train)) {
      reader.problem('train', 'texts', options.train[0], 'give those that the token file was made of');
    }
    reader.finish('The options of kotodama inspect-data are not valid');

    const { blockSize, shuffleBuffer: bufferSize, seed, limit } = options;
    const tokenizer = await Tokenizer.fromPretrained(options.tokenizer, showDownloads());
    const bad = new BadRecords();
    const line = new LiveLine(process.stderr);
    const onPiece = (measured: number) => line.working(`reading: ${bytes(measured)}`);
    const statistics = await measureTexts(
      (counting) => textBlocks(options.train, { ...options, tokenizer: counting, bad }, { dropLast: false }),
      tokenizer,
      { limit: limit * 1e6, shown: SHOWN_BLOCKS, onPiece },
    ).finally(() => line.clear());
    bad.end();
    const shuffle = await measureShuffle({ blocks: statistics.blocks, bufferSize, seed }, PICTURE);
    process.stdout.write(
      options.json
        ? `${JSON.stringify({ ...statistics, blockSize, shuffle })}\n`
        : [
            ...showBlocks(statistics, blockSize),
            ...showTokens(statistics, limit),
            ...showLengths(statistics),
            ...showCutting(statistics, blockSize),
            ...showShuffle(shuffle),
            '',
          ].join('\n'),
    );
    return 0;
  },
};

function showBlocks({ firstBlocks }: DataStatistics, blockSize: number): string[] {
  return firstBlocks.flatMap((text, index) => [
    `block ${index + 1}, ${blockSize} tokens:`,
    `  ${shorten(printable(text), 300, 100)}`,
    '',
  ]);
}

function showTokens(statistics: DataStatistics, limit: number): string[] {
  const { complete, texts, tokens, unknownTokens, usedIds, vocabSize } = statistics;
  const part = complete ? 'all of the text' : `only the first ${limit} MB of text (--limit 0 reads everything)`;
  const perByte = tokens / Math.max(1, statistics.bytes);
  return [
    `measured       ${part}`,
    `texts          ${count(texts)}, ${bytes(statistics.bytes)}`,
    `tokens         ${count(tokens)}, ${perByte.toFixed(3)} per byte, one for ${(1 / perByte).toFixed(2)} bytes`,
    `unknown        ${unknownTokens === null ? 'the tokenizer has no unknown token' : share(unknownTokens, tokens)}`,
    `vocabulary     ${usedIds} of ${vocabSize} ids occur`,
  ];
}

function share(part: number, whole: number): string {
  const percent = (100 * part) / Math.max(1, whole);
  return `${count(part)} tokens, ${percent < 0.1 && part > 0 ? percent.toPrecision(1) : percent.toFixed(1)}%`;
}

function showLengths({ meanText, longestText, lengths }: DataStatistics): string[] {
  const labels = lengths.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`));
  const width = Math.max(...labels.map(({ length }) => length));
  const lines = bars(
    lengths.map((bin) => bin.texts),
    40,
  );
  return [
    '',
    `lengths of texts in tokens: ${meanText.toFixed(1)} on average, the longest ${longestText}`,
    ...lengths.map((bin, index) =>
      `  ${labels[index]?.padStart(width)}  ${lines[index]} ${count(bin.texts)}`.trimEnd(),
    ),
  ];
}

function showCutting(statistics: DataStatistics, blockSize: number): string[] {
  const { complete, blocks, tokens, leftoverTokens } = statistics;
  const inPart = complete ? '' : ' in this part';
  if (blocks === 0) {
    return ['', `blocks         none${inPart}: one needs ${blockSize + 1} tokens, and there are ${tokens}`];
  }
  const rest = complete ? [`dropped        ${leftoverTokens} tokens at the end, which fill no block`] : [];
  return ['', `blocks         ${blocks} of ${blockSize} tokens${inPart}`, ...rest];
}

function showShuffle({ bufferSize, blocks, meanDistance, mostEarly, mostLate, grid }: ShuffleStatistics): string[] {
  if (blocks === 0) return [];
  const kind = bufferSize === 0 ? 'no shuffling' : `shuffling with a buffer of ${bufferSize}`;
  const picture = shades(grid).map((line) => `  ${line}`);
  return [
    '',
    `${kind} moves a block by ${meanDistance.toFixed(1)} places on average, at most ${mostEarly} early and ${mostLate} late`,
    `  left to right: place in the text, ${blocks} blocks; top to bottom: place in training`,
    ...picture,
    // Half the text is out of reach of most blocks: neighbours in the files stay neighbours in training.
    ...(bufferSize > 0 && meanDistance < blocks / 10
      ? ['  far parts of the text do not mix: shuffle the files themselves, or take a larger --shuffle-buffer']
      : []),
  ];
}
