export { BlockDataset, type BlockDatasetOptions } from './block-dataset.js';
export { BufferedShuffleDataset, type BufferedShuffleOptions } from './buffered-shuffle.js';
export { stackBlocks } from './collate.js';
export { DataLoader, type DataLoaderOptions } from './data-loader.js';
export type { Texts } from './iterable-source.js';
export type { RandomIntegers } from './random.js';
export { type Batch, type Block, type BlockSource, IGNORED_LABEL, type Json, type TokenTensor } from './types.js';
