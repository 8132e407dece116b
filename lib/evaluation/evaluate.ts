import type { Batch } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import type { GPT2 } from '../model/gpt2.js';
import { isIterable, OptionReader } from '../validate.js';
import { untilAborted } from '../waiting.js';

/** What an evaluation adds up. */
export interface Evaluation {
  /** Mean loss in nats per token; NaN when `signal` ended it before the first token. */
  loss: number;
  /** Sum of the losses in nats. */
  lossSum: number;
  /** Labels that are not ignored. */
  tokens: number;
  /** False when `signal` ended it early. */
  whole: boolean;
}

/** How much is measured. */
export interface EvaluateOptions {
  /** Batches to read. Default: all of them. */
  limit?: number | undefined;
  /** Ends it after the batch at hand, or while it has waited for one for a second. */
  signal?: AbortSignal | undefined;
  /** Hears of each batch once it is measured. */
  onBatch?: ((batch: Batch) => void) | undefined;
}

/** How many are measured; undefined, which may also be said with Infinity: all. */
export function readLimit(read: OptionReader): number | undefined {
  return read.values.limit === Number.POSITIVE_INFINITY ? undefined : read.integer('limit', { min: 1 }, undefined);
}

/**
 * Measures a model on batches, without touching gradients: the perplexity is exp of the mean loss, bits per byte
 * `lossSum / ln 2` over the bytes of the text (those of a whole pass are in `textBytes` of its BlockDataset). The batches must
 * be of the tokenizer that the model learned with: ids beyond the model's are refused, others of another one are not noticed.
 *
 * @throws KotodamaError `ERR_DATA` when the batches hold no label, `ERR_NON_FINITE` when the loss of one is NaN or infinite.
 */
export async function evaluate(
  model: GPT2,
  batches: AsyncIterable<Batch>,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const read = new OptionReader(options);
  read.onlyKnown(['limit', 'signal', 'onBatch']);
  const rest = { limit: readLimit(read), signal: read.signal('signal') };
  const { onBatch } = read.values as EvaluateOptions;
  checkModel(read, model);
  if (!isIterable(batches)) read.problem('batches', 'a DataLoader, or an async iterable of batches', batches);
  if (onBatch !== undefined && typeof onBatch !== 'function') read.problem('onBatch', 'a function', onBatch);
  read.finish('The model cannot be measured so');
  return addLosses(model, batches, {
    ...rest,
    onBatch(batch, lossSum) {
      checkFinite(lossSum);
      onBatch?.(batch);
    },
  });
}

/** Notes what is no model. */
export function checkModel(read: OptionReader, model: GPT2): void {
  if (typeof model?.evaluate !== 'function') read.problem('model', 'a GPT2', model);
}

/** A loss of a measurement. @throws KotodamaError `ERR_NON_FINITE` */
export function checkFinite(lossSum: number): void {
  if (Number.isFinite(lossSum)) return;
  throw new KotodamaError('ERR_NON_FINITE', `The model's loss is ${lossSum}`, {
    expected: 'a finite number',
    hint: 'the weights probably hold NaN or infinite values: go back to an earlier checkpoint',
  });
}

/** {@link evaluate} for whoever knows what a loss that is no number means to them, and gives checked options. */
export async function addLosses(
  model: GPT2,
  batches: AsyncIterable<Batch>,
  {
    limit = Number.POSITIVE_INFINITY,
    signal,
    onBatch,
  }: Omit<EvaluateOptions, 'onBatch'> & { onBatch: (batch: Batch, lossSum: number) => void },
): Promise<Evaluation> {
  const total = { lossSum: 0, tokens: 0 };
  let count = 0;
  for await (const batch of untilAborted(batches, signal)) {
    const { lossSum, tokens } = await model.evaluate(batch);
    total.lossSum += lossSum;
    total.tokens += tokens;
    onBatch(batch, lossSum);
    if (signal?.aborted === true || ++count >= limit) break;
  }
  const whole = signal?.aborted !== true;
  if (total.tokens === 0 && whole) {
    throw new KotodamaError('ERR_DATA', 'The evaluation data holds no token to predict', {
      expected: 'at least two tokens of text',
      received: 'none',
      hint: 'give more text',
    });
  }
  return { loss: total.lossSum / total.tokens, ...total, whole };
}
