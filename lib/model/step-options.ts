import type { NativeStepOptions } from '../native.js';
import { describe, OptionReader } from '../validate.js';

/** AdamW (Loshchilov and Hutter 2019) with the gradients' global norm clipped. */
export interface StepOptions {
  /** Required. */
  learningRate: number;
  /** Decay of the first and second moment [0.9, 0.95]. */
  betas?: readonly [number, number] | undefined;
  /** [1e-8] */
  eps?: number | undefined;
  /** Of the matrices; biases and LayerNorms have none [0.1]. */
  weightDecay?: number | undefined;
  /** Longest gradient; 0 turns clipping off [1]. */
  maxGradNorm?: number | undefined;
}

/** @throws KotodamaError `ERR_OPTIONS` */
export function readStepOptions(options: StepOptions): NativeStepOptions {
  const read = new OptionReader(options);
  read.onlyKnown(['learningRate', 'betas', 'eps', 'weightDecay', 'maxGradNorm']);
  const learningRate = read.number('learningRate', { min: 0 });
  const eps = read.number('eps', { min: 0 }, 1e-8);
  const weightDecay = read.number('weightDecay', { min: 0 }, 0.1);
  const maxGradNorm = read.number('maxGradNorm', { min: 0 }, 1);
  const { betas = [0.9, 0.95] } = read.values;
  const isBeta = (value: unknown) => typeof value === 'number' && value >= 0 && value < 1;
  const given: readonly unknown[] = Array.isArray(betas) ? betas : [];
  if (given.length !== 2 || !given.every(isBeta)) {
    const received = Array.isArray(betas) ? `[${given.map(describe).join(', ')}]` : describe(betas);
    read.problems.add('betas', 'two numbers of at least 0 and below 1', received);
  }
  read.finish('The optimizer step has wrong options');
  const [beta1, beta2] = given as [number, number];
  return { learningRate, beta1, beta2, eps, weightDecay, maxGradNorm };
}
