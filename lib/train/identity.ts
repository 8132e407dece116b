import type { Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import type { GPT2 } from '../model/gpt2.js';
import type { BatchSource } from './batch-stream.js';

/** What makes a run itself: a resumed one must have the same. */
export function identityOf(
  model: GPT2,
  tokenizer: string,
  { batchSize, blockSize }: BatchSource,
  gradAccum: number,
): { [key: string]: Json } {
  const { vocabSize, nPositions, nEmbd, nLayer, nHead, nInner, embdPdrop, attnPdrop, residPdrop } = model.config;
  return {
    ...{ vocabSize, nPositions, nEmbd, nLayer, nHead, nInner, embdPdrop, attnPdrop, residPdrop },
    ...{ precision: model.precision, batchSize, blockSize, gradAccum, tokenizer },
  };
}

/** @throws KotodamaError `ERR_CHECKPOINT` that lists what differs between the run in `out` and the one at hand. */
export function checkIdentity(out: string, before: { [key: string]: Json }, now: { [key: string]: Json }): void {
  const different = Object.keys(now).filter((key) => now[key] !== before[key]);
  if (different.length === 0) return;
  const lines = different.map((key) => `  ${key}: ${before[key]} in the run, ${now[key]} now`);
  throw new KotodamaError('ERR_CHECKPOINT', `The run in ${out} is another one:\n${lines.join('\n')}`, {
    hint: 'give the same values as before, or choose another folder',
  });
}

/** A copy without `undefined`, which JSON does not know. */
export function plain(value: object): { [key: string]: Json } {
  return JSON.parse(JSON.stringify(value));
}
