import { type NativeModel, type NativeModelOptions, native } from '../native.js';
import { OptionReader } from '../validate.js';
import type { GPT2Config } from './config.js';
import { resolveDevice } from './device.js';
import { callNative } from './native-call.js';

/** Arithmetic of the matrix products. */
export type Precision = 'fp32' | 'bf16';

/** Where and how a model computes. */
export interface ModelOptions {
  /** `auto` (the first CUDA device, else the CPU), `cpu`, `cuda` or `cuda:N` [auto]. */
  device?: string | undefined;
  /** Arithmetic of the matrix products; the weights and their moments are float32 in both [fp32]. */
  precision?: Precision | undefined;
  /**
   * Rounds the bf16 copies that the products read up or down at random, so that the mean is the weight itself, instead of
   * to the nearest (Gupta et al. 2015, "Deep Learning with Limited Numerical Precision"; `stochastic_rounding` of llm.c).
   * It is for training whose only weights are bf16, where small updates would be lost; with float32 weights behind the
   * copies, as here, none are, and it adds noise. Decided by the seed, the weight's place and the optimizer's step; copies of
   * frozen tensors are rounded to the nearest. Needs `precision: 'bf16'` [false].
   */
  stochasticRounding?: boolean | undefined;
  /** Seeds the initial weights, dropout and stochastic rounding [0]. */
  seed?: number | undefined;
  /** CPU threads [as many as there are cores]. */
  threads?: number | undefined;
}

/** Makes the engine's model, and wraps it. */
export async function build<M>(
  config: GPT2Config,
  options: ModelOptions,
  weights: NativeModelOptions['weights'],
  wrap: (model: NativeModel, config: GPT2Config, precision: Precision, stochasticRounding: boolean, seed: number) => M,
): Promise<M> {
  const read = new OptionReader(options);
  read.onlyKnown(['device', 'precision', 'stochasticRounding', 'seed', 'threads']);
  const precision = read.choice('precision', ['fp32', 'bf16'], 'fp32');
  const stochasticRounding = read.boolean('stochasticRounding', false);
  if (stochasticRounding && precision === 'fp32') {
    read.problem(
      'stochasticRounding',
      "false, or precision 'bf16'",
      true,
      'in fp32 no copies of the weights are rounded',
    );
  }
  const seed = read.integer('seed', { min: 0 }, 0);
  // 0 lets the engine choose.
  const threads = read.integer('threads', { min: 1, max: 1024 }, 0);
  read.finish('The model cannot be made with these options');
  const addon = native();
  const device = await resolveDevice(addon, options.device ?? 'auto');
  const nativeOptions = { device, precision, stochasticRounding, seed, weights, threads };
  const model = await callNative(() => addon.createModel(config, nativeOptions));
  return wrap(model, config, precision, stochasticRounding, seed);
}
