import type { NativeStepOptions } from '../native.js';
import { OptionReader } from '../validate.js';

/** AdamW (Loshchilov and Hutter 2019) with the gradients' global norm clipped. */
export interface StepOptions {
  /** Required. */
  learningRate: number;
  /** Decay of the first and second moment [0.9, 0.95]. */
  betas?: readonly [number, number];
  /** [1e-8] */
  eps?: number;
  /** Of the matrices; biases and LayerNorms have none [0.1]. */
  weightDecay?: number;
  /** Longest gradient; 0 turns clipping off [1]. */
  maxGradNorm?: number;
}

/** @throws KotodamaError `ERR_OPTIONS` */
export function readStepOptions(options: StepOptions): NativeStepOptions {
  const read = new OptionReader(options);
  read.onlyKnown(['learningRate', 'betas', 'eps', 'weightDecay', 'maxGradNorm']);
  const learningRate = read.number('learningRate', { min: 0 });
  const eps = read.number('eps', { min: 0 }, 1e-8);
  const weightDecay = read.number('weightDecay', { min: 0 }, 0.1);
  const maxGradNorm = read.number('maxGradNorm', { min: 0 }, 1);
  const [beta1 = Number.NaN, beta2 = Number.NaN] = options.betas ?? [0.9, 0.95];
  for (const beta of [beta1, beta2]) {
    if (!(beta >= 0 && beta < 1)) read.problem('betas', 'two numbers of at least 0 and below 1', beta);
  }
  read.finish('The optimizer step has wrong options');
  return { learningRate, beta1, beta2, eps, weightDecay, maxGradNorm };
}
