import { BlockDataset } from '../data/block-dataset.js';
import { BufferedShuffleDataset } from '../data/buffered-shuffle.js';
import { DataLoader } from '../data/data-loader.js';
import type { Encoding } from '../data/sources/encoding.js';
import { filesMatching, isPattern } from '../data/sources/glob.js';
import { publicName } from '../data/sources/public-name.js';
import { TokenDataset } from '../data/token-dataset.js';
import { isTokenFile, refuseUrl } from '../data/token-file.js';
import type { BlockSource } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { printable } from '../report/words.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import type { OptionReader } from '../validate.js';

/** Bad records to show one by one. */
const SHOWN = 5;

/** How texts are read from files. */
export interface Reading {
  textField?: string;
  promptField?: string;
  encoding: Encoding;
  keepLinebreaks: boolean;
  eos?: 'none' | 'line' | 'document';
  skipBad: boolean;
}

/** How texts become batches. */
export interface DataOptions extends Reading {
  tokenizer: Tokenizer;
  blockSize: number;
  batchSize: number;
  numWorkers: number;
  prefetchFactor: number;
  /** Hears of bad records when they are left out. */
  bad: BadRecords;
}

/** Tells the person about bad records that are left out: the first ones as they come, all of them as a number. */
export class BadRecords {
  private count = 0;

  readonly note = (problem: KotodamaError): void => {
    if (++this.count <= SHOWN) process.stderr.write(`left out: ${printable(problem.message)}\n`);
  };

  /** Says how many there were; a record counts each time it is read. */
  end(): void {
    if (this.count > 0) process.stderr.write(`bad records left out: ${this.count}\n`);
  }
}

/** Batches to learn from. Texts are shuffled within a buffer, token files altogether; a buffer of 0 leaves both in order. */
export async function trainLoader(
  files: readonly string[],
  options: DataOptions & { shuffleBuffer: number; seed: number },
): Promise<DataLoader> {
  const { tokenizer, blockSize, batchSize, numWorkers, prefetchFactor, shuffleBuffer, seed } = options;
  let source: BlockSource;
  if (areTokenFiles(files)) {
    source = await TokenDataset.open(expanded(files), { tokenizer, blockSize, seed, shuffle: shuffleBuffer > 0 });
  } else {
    source = textBlocks(files, options, { dropLast: true });
    if (shuffleBuffer > 0) source = new BufferedShuffleDataset(source, { bufferSize: shuffleBuffer, seed });
  }
  return new DataLoader(source, { batchSize, numWorkers, prefetchFactor });
}

/**
 * Batches to measure on: all of it in order, its incomplete end included. Beside them the texts that they are from, if they
 * are not from token files.
 */
export async function validLoader(
  files: readonly string[],
  options: DataOptions,
): Promise<{ loader: DataLoader; texts: BlockDataset | undefined }> {
  const { tokenizer, blockSize, batchSize, prefetchFactor } = options;
  const texts = areTokenFiles(files) ? undefined : textBlocks(files, options, { dropLast: false });
  const blocks =
    texts ?? (await TokenDataset.open(expanded(files), { tokenizer, blockSize, dropLast: false, shuffle: false }));
  // Threads are made anew for each evaluation, which seldom needs more than one.
  const numWorkers = Math.min(1, options.numWorkers);
  return { loader: new DataLoader(blocks, { batchSize, numWorkers, prefetchFactor }), texts };
}

/** Blocks of texts, read as the options say. */
export function textBlocks(
  files: readonly string[],
  options: Pick<DataOptions, 'blockSize' | 'bad' | keyof Reading> & { tokenizer: TokenizerModel },
  { dropLast }: { dropLast: boolean },
): BlockDataset {
  const { tokenizer, blockSize, textField, promptField, encoding, keepLinebreaks, eos, bad } = options;
  const reading = { textField, promptField, encoding, keepLinebreaks, eos, skipBad: options.skipBad && bad.note };
  return BlockDataset.fromFile(files, { tokenizer, blockSize, dropLast, ...reading });
}

/**
 * Whether these are token files rather than texts; patterns by what they match.
 *
 * @throws KotodamaError `ERR_OPTIONS` when they are both, and for the URL of a token file
 */
export function areTokenFiles(files: readonly string[]): boolean {
  const paths = named(files);
  paths.forEach(refuseUrl);
  const text = paths.find((path) => !isTokenFile(path));
  if (text === undefined) return true;
  if (!paths.some(isTokenFile)) return false;
  throw new KotodamaError('ERR_OPTIONS', 'Texts and token files cannot be mixed', {
    expected: 'only names that end in .bin, or none',
    received: `${publicName(text)} among them`,
    hint: 'make a token file of the texts with kotodama tokenize',
  });
}

/**
 * Notes options that say how texts are read where there are none, only token files: what they ask for was decided when the
 * ids were made.
 */
export function refuseReading(
  reader: OptionReader,
  options: { readonly [name: string]: unknown },
  files: readonly string[],
): void {
  if (files.length === 0 || !named(files).every(isTokenFile)) return;
  if (options.promptField !== undefined) {
    reader.problem('promptField', 'nothing with token files', options.promptField, 'give the records themselves');
  }
  for (const [name, usual] of Object.entries(USUAL_READING)) {
    const value = options[name];
    if (value === undefined || value === usual) continue;
    reader.problem(name, 'nothing with token files alone', value, 'give it to kotodama tokenize, which makes them');
  }
}

/** What texts are read with unless somebody asks for something else. */
const USUAL_READING = {
  textField: undefined,
  encoding: 'utf-8',
  keepLinebreaks: false,
  eos: 'none',
  skipBad: false,
};

/** Paths with patterns such as `data/*.bin` replaced by what they match, where that is anything. */
function expanded(files: readonly string[]): string[] {
  return files.flatMap((path) => {
    const matches = isPattern(path) ? filesMatching(path) : [];
    return matches.length > 0 ? matches : [path];
  });
}

/** `expanded`, to tell kinds apart: what stands in the way of a pattern is told where the files are checked or opened. */
function named(files: readonly string[]): readonly string[] {
  try {
    return expanded(files);
  } catch (error) {
    if (error instanceof KotodamaError && error.code === 'ERR_IO') return files;
    throw error;
  }
}
