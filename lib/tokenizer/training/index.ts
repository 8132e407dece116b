export type { TokenizerProgress, TrainTokenizerOptions } from './options.js';
export { trainTokenizer } from './train-tokenizer.js';
export { TrainedTokenizer } from './trained-tokenizer.js';
