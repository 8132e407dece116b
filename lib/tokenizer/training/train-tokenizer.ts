import { checkTokenizerOptions, type TrainTokenizerOptions } from './options.js';
import { trainBpe } from './train-bpe.js';
import type { TrainedTokenizer } from './trained-tokenizer.js';
import { trainUnigram } from './unigram/train-unigram.js';

/**
 * Trains a tokenizer on text: a byte-level BPE, GPT-2's kind, or a SentencePiece unigram model.
 *
 *     const trained = await trainTokenizer({ files: 'data/train.txt', vocabSize: 8000 });
 *     await trained.save('tokenizer');
 *
 * The same texts and options give the same tokenizer; for BPE in whatever order the texts come. The text is streamed: memory
 * grows with its distinct words alone (BPE: pre-tokens, about 20 bytes for each of their bytes; unigram: runs of characters
 * of one script, and the pieces that learning begins with). A text without spaces, as in Japanese, is cut at punctuation and
 * digits only, so that most of its words are distinct.
 *
 * The event loop gets its turn about every 20 ms, but for one sort of the distinct words. A unigram model is learned in a
 * thread of its own.
 *
 * @throws KotodamaError `ERR_OPTIONS`, also for a vocabulary that is too small for the characters of the text; `ERR_IO` and
 *   `ERR_DATA` for texts that cannot be read, are not UTF-8, or hold nothing; `ERR_MEMORY` for more than 512 MiB of distinct
 *   words; `ERR_ABORTED`
 */
export async function trainTokenizer(options: TrainTokenizerOptions): Promise<TrainedTokenizer> {
  const settings = checkTokenizerOptions(options);
  return settings.type === 'bpe' ? trainBpe(options, settings) : trainUnigram(options, settings);
}
