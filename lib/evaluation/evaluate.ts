import type { Batch } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import type { GPT2 } from '../model/gpt2.js';

/** What an evaluation adds up. */
export interface Evaluation {
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
  /** Ends it after the batch at hand. */
  signal?: AbortSignal | undefined;
  /** Hears of each batch once it is measured. */
  onBatch?: ((batch: Batch) => void) | undefined;
}

/**
 * Measures a model on batches, without touching gradients: the mean loss in nats is `lossSum / tokens`, the perplexity
 * exp of that, bits per byte `lossSum / ln 2` over the bytes of the text.
 *
 * @throws KotodamaError `ERR_DATA` when the batches hold no label.
 */
export async function evaluate(
  model: GPT2,
  batches: AsyncIterable<Batch>,
  { limit = Number.POSITIVE_INFINITY, signal, onBatch }: EvaluateOptions = {},
): Promise<Evaluation> {
  const total: Evaluation = { lossSum: 0, tokens: 0, whole: true };
  let count = 0;
  for await (const batch of batches) {
    const { lossSum, tokens } = await model.evaluate(batch);
    total.lossSum += lossSum;
    total.tokens += tokens;
    onBatch?.(batch);
    if (signal?.aborted === true) return { ...total, whole: false };
    if (++count >= limit) break;
  }
  if (total.tokens === 0) {
    throw new KotodamaError('ERR_DATA', 'The evaluation data holds no token to predict', {
      expected: 'at least two tokens of text',
      received: 'none',
      hint: 'give more text',
    });
  }
  return total;
}
