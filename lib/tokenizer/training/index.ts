export type { TokenizerProgress, TrainTokenizerOptions } from './options.js';
export { type TrainedTokenizer, trainTokenizer } from './train-tokenizer.js';
