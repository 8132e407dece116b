export { BlockDataset, type BlockDatasetOptions, type FileDatasetOptions } from './block-dataset.js';
export { BufferedShuffleDataset, type BufferedShuffleOptions } from './buffered-shuffle.js';
export { stackBlocks } from './collate.js';
export { DataLoader, type DataLoaderOptions } from './data-loader.js';
export type { RandomIntegers } from './random.js';
export { type SlidingWindowsOptions, slidingWindows } from './sliding-windows.js';
export type { Texts } from './sources/iterable-source.js';
export { TokenDataset, type TokenDatasetOptions } from './token-dataset.js';
export type { TokenFile, TokenFileNotes, TokenizerMark, TokenType } from './token-file.js';
export { type TokenFileOptions, writeTokenFiles } from './token-file-writer.js';
export type { TokenPiece } from './token-piece.js';
export {
  type Batch,
  type Block,
  type BlockOrigin,
  type BlockSource,
  IGNORED_LABEL,
  type Json,
  type TokenTensor,
} from './types.js';
