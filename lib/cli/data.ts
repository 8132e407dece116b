import { BlockDataset } from '../data/block-dataset.js';
import { BufferedShuffleDataset } from '../data/buffered-shuffle.js';
import { DataLoader } from '../data/data-loader.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';

/** How texts become batches. */
export interface DataOptions {
  tokenizer: Tokenizer;
  blockSize: number;
  batchSize: number;
  numWorkers: number;
  prefetchFactor: number;
}

/** Batches to learn from, shuffled within a buffer. */
export function trainLoader(
  files: readonly string[],
  options: DataOptions & { shuffleBuffer: number; seed: number },
): DataLoader {
  const { tokenizer, blockSize, batchSize, numWorkers, prefetchFactor, shuffleBuffer, seed } = options;
  const blocks = BlockDataset.fromFile(files, { tokenizer, blockSize });
  const source = shuffleBuffer > 0 ? new BufferedShuffleDataset(blocks, { bufferSize: shuffleBuffer, seed }) : blocks;
  return new DataLoader(source, { batchSize, numWorkers, prefetchFactor });
}

/** Batches to measure on: the whole text in order, its incomplete end included. */
export function validLoader(files: readonly string[], options: DataOptions): DataLoader {
  const { tokenizer, blockSize, batchSize, prefetchFactor } = options;
  const blocks = BlockDataset.fromFile(files, { tokenizer, blockSize, dropLast: false });
  // Threads are made anew for each evaluation, which seldom needs more than one.
  return new DataLoader(blocks, { batchSize, numWorkers: Math.min(1, options.numWorkers), prefetchFactor });
}
