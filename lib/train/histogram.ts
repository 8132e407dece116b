import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GPT2 } from '../model/gpt2.js';
import type { GradientHistogram } from './events.js';

/** As many as TensorBoard shows. */
const BUCKETS = 30;

/** Histograms of the gradients of all parameters, taken between the backward pass and the update. */
export async function gradientHistograms(model: GPT2): Promise<GradientHistogram[]> {
  const histograms: GradientHistogram[] = [];
  for (const { name } of model.tensors) {
    histograms.push({ name, ...histogramOf(await model.readGradient(name)) });
    // A large tensor takes a while: signals and timers are let in between.
    await nextTurn();
  }
  return histograms;
}

/** Counts finite values in equally wide intervals from the smallest to the largest one. */
export function histogramOf(values: Float32Array): Omit<GradientHistogram, 'name'> {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let sum = 0;
  let sumOfSquares = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
    sum += value;
    sumOfSquares += value * value;
  }
  const counts = new Array<number>(BUCKETS).fill(0);
  if (min > max) return { min: 0, max: 0, sum, sumOfSquares, counts };
  const scale = max > min ? BUCKETS / (max - min) : 0;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    const index = Math.min(BUCKETS - 1, Math.floor((value - min) * scale));
    counts[index] = (counts[index] as number) + 1;
  }
  return { min, max, sum, sumOfSquares, counts };
}
