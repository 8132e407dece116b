import { KotodamaError } from '../errors.js';
import type { OpenTokenizer, TokenizerModel } from '../tokenizer/types.js';
import type { GPT2Config } from './config.js';

type Sized = Pick<TokenizerModel, 'vocabSize'> & Partial<Pick<OpenTokenizer, 'vocabulary'>>;

/**
 * Checks that the model has the tokenizer's ids. It may have more, to round up; those have no text. It may lack special
 * tokens at the end, such as a `[PAD]` that was added for batches: text is made without them.
 *
 * @throws KotodamaError `ERR_TOKENIZER` when it lacks others: the tokenizer is not the one that it was trained with
 */
export function checkTokenizerFits({ vocabSize }: Pick<GPT2Config, 'vocabSize'>, tokenizer: Sized): void {
  if (!(tokenizer.vocabSize > vocabSize)) return;
  const needed =
    1 + (tokenizer.vocabulary?.kinds.findLastIndex((kind) => kind !== 'control') ?? tokenizer.vocabSize - 1);
  if (needed <= vocabSize) return;
  throw new KotodamaError('ERR_TOKENIZER', 'The tokenizer does not fit the model', {
    expected: `at most ${vocabSize} ids`,
    received: `${needed}`,
    hint: 'use the tokenizer that the model was trained with',
  });
}
