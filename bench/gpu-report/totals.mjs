// @ts-check
// A training step's time and MFU from its operations.

import { worksOf } from './counted.mjs';
import { roofline } from './roofline.mjs';

/** @typedef {import('./devices.mjs').Device} Device */
/** @typedef {import('./counted.mjs').Counts} Counts */

/**
 * The floating-point operations of a training step over `counts.batch * counts.block` tokens, as MFU counts them: those
 * of the model's mathematics, whatever the kernels do beside (recomputation, padding). Six for each token and parameter
 * (two forward, four backward), the learned positions aside; for attention 6 L C T where only what the causal mask
 * leaves is counted, 12 L C T where the whole square is (Chowdhery et al. 2022, "PaLM", appendix B).
 *
 * @param {Counts} counts
 */
export function modelFlops(counts) {
  const tokens = counts.batch * counts.block;
  const matrices = 6 * (counts.parameters - counts.positionParameters);
  const square = 12 * counts.layers * counts.width * counts.block;
  return { causal: tokens * (matrices + square / 2), square: tokens * (matrices + square) };
}

/**
 * @param {Counts} counts
 * @param {Device} device
 */
export function totals(counts, device) {
  const flops = modelFlops(counts);
  const sum = { microStep: 0, microStepWaves: 0, step: 0, stepWaves: 0 };
  let launches = 0;
  for (const operation of counts.operations) {
    const times = worksOf(operation).map((work) => roofline(work, device));
    const seconds = times.reduce((total, time) => total + time.seconds, 0);
    const waves = times.reduce((total, time) => total + time.waves.seconds, 0);
    sum.microStep += operation.perMicroStep * seconds;
    sum.microStepWaves += operation.perMicroStep * waves;
    sum.step += operation.perStep * seconds;
    sum.stepWaves += operation.perStep * waves;
    const kernels = Object.values(operation.counters.kernels);
    launches += operation.perMicroStep * kernels.reduce((total, kernel) => total + kernel.launches, 0);
  }
  const mfu = (/** @type {number} */ work, /** @type {number} */ seconds) => work / seconds / device.tensor;
  return {
    ...sum,
    launches,
    flops,
    ideal: flops.causal / device.tensor,
    mfu: mfu(flops.causal, sum.microStep),
    mfuWaves: mfu(flops.causal, sum.microStepWaves),
    mfuSquare: mfu(flops.square, sum.microStep),
    mfuStep: mfu(flops.causal, sum.microStep + sum.step),
    mfuStepWaves: mfu(flops.causal, sum.microStepWaves + sum.stepWaves),
  };
}
