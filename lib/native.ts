import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KotodamaError, messageOf } from './errors.js';

/** GPT-2's numbers as the engine takes them. */
export interface NativeConfig {
  vocabSize: number;
  nPositions: number;
  nEmbd: number;
  nLayer: number;
  nHead: number;
  nInner: number;
  layerNormEpsilon: number;
  initializerRange: number;
  embdPdrop: number;
  attnPdrop: number;
  residPdrop: number;
}

export interface NativeModelOptions {
  /** `cpu` or `cuda:N`. */
  device: string;
  precision: 'fp32' | 'bf16';
  /** Of the bf16 copies of the weights; else to nearest even. Refused with fp32. */
  stochasticRounding: boolean;
  /** CPU threads; 0 lets the engine choose. */
  threads: number;
  /** Seeds initialisation and dropout. */
  seed: number;
  /** What the model begins with: drawing numbers takes time, and is in vain where all of them will be written. */
  weights: 'random' | 'zeros';
}

export interface NativeLoss {
  /** Sum of the losses in nats. */
  sum: number;
  /** Labels that are not ignored. */
  count: number;
}

export interface NativeStepOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** 0: no clipping. */
  maxGradNorm: number;
}

export interface NativeStepResult {
  /** Global norm of the mean gradient, before clipping. */
  gradNorm: number;
  /** False when the norm is not finite; nothing was changed then. */
  applied: boolean;
}

export interface NativeTrainStepResult extends NativeLoss, NativeStepResult {
  /** What the update took. */
  updateSeconds: number;
}

/** Bytes, planned before they are taken. */
export interface NativeMemoryPlan {
  parameters: number;
  gradients: number;
  /** AdamW's, two numbers per parameter. */
  moments: number;
  /** Of one micro-batch, and what the device works in. */
  activations: number;
  /** All of the above. */
  total: number;
  /** What the device has free now, beside what the model holds already. */
  free: number;
}

export interface NativeDevice {
  /** `cpu` or `cuda:N`. */
  device: string;
  /** The processor's or the GPU's name. */
  name: string;
  /** What it can do, e.g. `AVX-512, 2 threads` or `compute capability 8.0`. */
  detail: string;
  /** Memory. */
  totalBytes: number;
  /** Memory that is free now; may be 0 where the device cannot be used. */
  freeBytes: number;
}

export interface ListedDevice extends NativeDevice {
  /** Why it cannot be used, and what to do; null when it can. */
  problem: string | null;
}

/** What there is of CUDA. */
export interface NativeCuda {
  /** What compiled the kernels and for what, e.g. `nvcc 13.0.88: PTX 80, machine code 80 90`; null in a build without. */
  kernels: string | null;
  /** The version of CUDA that the driver knows, e.g. `13.0`; null where there is no driver. */
  driver: string | null;
  /** Why the driver cannot be used, or null when it can. */
  driverProblem: string | null;
}

export type TensorKind = 'param' | 'grad' | 'exp_avg' | 'exp_avg_sq';

/** What the engine counts; restored on resume so that bias correction and dropout masks continue. */
export interface NativeCounters {
  /** Optimizer steps applied. */
  step: number;
  /** Micro-steps taken (forwardBackward calls). */
  microStep: number;
}

/** One GPT-2 on one device. Calls run off the event loop, one at a time; a second one at once is `ERR_BUSY`. */
export interface NativeModel {
  device(): NativeDevice;
  /** Name, shape and order of the parameters, Hugging Face's names and layout. */
  tensors(): { name: string; shape: number[] }[];
  plan(batchSize: number, blockSize: number): NativeMemoryPlan;
  /** FLOP/s that the device does at best in this model's precision, measured now; 0 where only its maker knows. */
  peakFlops(): Promise<number>;
  /** Takes the activations' memory for this shape; `ERR_MEMORY` when it does not fit. */
  reserve(batchSize: number, blockSize: number): Promise<void>;
  /** What the next call will probably read, of any shape, is copied to a GPU while this one computes. */
  forwardBackward(
    inputIds: Int32Array,
    labels: Int32Array,
    batchSize: number,
    blockSize: number,
    nextInputIds?: Int32Array,
    nextLabels?: Int32Array,
  ): Promise<NativeLoss>;
  step(options: NativeStepOptions): Promise<NativeStepResult>;
  /**
   * `forwardBackward` and `step` in one call. A loss that is not finite, or no label since the last step, updates nothing
   * and forgets the gradients: `applied` is false then, `gradNorm` NaN.
   */
  trainStep(
    inputIds: Int32Array,
    labels: Int32Array,
    batchSize: number,
    blockSize: number,
    options: NativeStepOptions,
    nextInputIds?: Int32Array,
    nextLabels?: Int32Array,
  ): Promise<NativeTrainStepResult>;
  /** The norm that `step` would find; changes nothing. */
  gradientNorm(): Promise<number>;
  /** Forgets accumulated gradients. */
  zeroGradients(): Promise<void>;
  /** `step` leaves these parameters alone from now on, and no others; their gradients are 0. */
  freeze(names: string[]): void;
  evaluate(inputIds: Int32Array, labels: Int32Array, batchSize: number, blockSize: number): Promise<NativeLoss>;
  /** Logits (B, T, V). */
  forward(inputIds: Int32Array, batchSize: number, blockSize: number): Promise<Float32Array>;
  /** Attention probabilities of one layer, (B, H, T, T), 0 above the diagonal. */
  attention(inputIds: Int32Array, batchSize: number, blockSize: number, layer: number): Promise<Float32Array>;
  /** What enters each block and what leaves ln_f, (L + 1, B, T, C). */
  hiddenStates(inputIds: Int32Array, batchSize: number, blockSize: number): Promise<Float32Array>;
  /** Gradients are means over the labels counted since the last step. */
  readTensor(kind: TensorKind, name: string): Promise<Float32Array>;
  writeTensor(kind: TensorKind, name: string, data: Float32Array): Promise<void>;
  counters(): NativeCounters;
  setCounters(counters: NativeCounters): void;
  /**
   * A key-value cache for `batchSize` sequences of up to `capacity` positions.
   * @param int8 with up to 8 sequences, compute positions that come one at a time after others with matrices of eight
   *   bits; CPU only [false]
   */
  createDecoder(batchSize: number, capacity: number, int8?: boolean): Promise<NativeDecoder>;
  /** Frees device memory once a running call has ended; safe to call again. */
  dispose(): Promise<void>;
}

export interface NativeDecoder {
  /** Positions held. */
  length(): number;
  /** Appends n ids per sequence, (B, n) row-major; gives the logits after the last one, (B, V), written to `logits` [new]. */
  append(inputIds: Int32Array, logits?: Float32Array): Promise<Float32Array>;
  /** Forgets all positions. */
  reset(): void;
  dispose(): Promise<void>;
}

export interface NativeAddon {
  createModel(config: NativeConfig, options: NativeModelOptions): Promise<NativeModel>;
  /** The devices that are here; the CPU comes first. The first call starts the CUDA driver, which may take seconds. */
  deviceNames(): Promise<string[]>;
  /** Looks whether a device that is here can be used; no other one is touched. */
  examineDevice(device: string): Promise<ListedDevice>;
  /** Why CUDA cannot be used here, or null when it can. Before `deviceNames` was called this starts the driver and waits. */
  cudaProblem(): string | null;
  /** As `cudaProblem`, this comes after `deviceNames`. */
  cuda(): NativeCuda;
  /** Computes a little on a device and looks at the results. */
  checkDevice(device: string): Promise<void>;
}

let loaded: NativeAddon | undefined;

/**
 * Loads the compiled addon, once per thread.
 *
 * @throws KotodamaError `ERR_NATIVE` with the way out when it was never built or does not fit this machine.
 */
export function native(): NativeAddon {
  if (loaded === undefined) {
    const require = createRequire(import.meta.url);
    const root = dirname(dirname(fileURLToPath(import.meta.url)));
    try {
      loaded = (require('node-gyp-build') as (directory: string) => NativeAddon)(root);
    } catch (cause) {
      throw new KotodamaError('ERR_NATIVE', `The native engine could not be loaded (${firstLine(messageOf(cause))})`, {
        hint: [
          'build it with `npm rebuild kotodama --foreground-scripts` (in a clone: `npm run build:native`);',
          'a C++17 compiler (GCC 10, Clang 9 or newer) and CMake 3.18 or newer are needed',
          '(Debian, Ubuntu: `sudo apt-get install g++ cmake make`);',
          'if npm blocked install scripts, run `npm approve-scripts kotodama` first',
          '(pnpm: `pnpm approve-builds`, then `pnpm rebuild kotodama`);',
          'a bundler must leave kotodama out (esbuild: `--external:kotodama`)',
        ].join('\n        '),
        cause,
      });
    }
  }
  return loaded;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? text;
}
