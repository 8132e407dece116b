import { readFileSync } from 'node:fs';
import type t from 'tap';
import type { NativeConfig, NativeModel, NativeModelOptions, NativeStepOptions } from '../../dist/native.js';
import { native } from '../../dist/native.js';

export type Tap = Pick<typeof t, 'test'>;
/** Which device, precision, threads and seed. */
export type EngineOptions = Partial<NativeModelOptions>;

/** What make_fixtures.py wrote about one model. */
export interface Fixture {
  config: NativeConfig;
  batchSize: number;
  blockSize: number;
  microBatches: number;
  batches: { inputIds: number[]; labels: number[] }[];
  loss: number;
  stepOptions: NativeStepOptions;
  steps: { loss: number; gradNorm: number }[];
  greedy: { prompt: number[]; ids: number[] };
  bf16: { logits: number; loss: number; gradients: Record<string, number> };
  tensor(name: string): Float32Array;
}

export const fixtureNames = ['three-heads', 'one-position', 'long-block', 'accumulated', 'one-head'];

export function readFixture(name: string): Fixture {
  const folder = new URL('fixtures/', import.meta.url);
  const meta = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8'));
  const bytes = readFileSync(new URL(`${name}.bin`, folder));
  return {
    ...meta,
    tensor(key: string) {
      const { offset, shape } = meta.tensors[key] as { offset: number; shape: number[] };
      const size = shape.reduce((a, b) => a * b, 1);
      return Float32Array.from({ length: size }, (_, i) => bytes.readFloatLE(4 * (offset + i)));
    },
  };
}

export const smallConfig: NativeConfig = {
  vocabSize: 53,
  nPositions: 16,
  nEmbd: 24,
  nLayer: 2,
  nHead: 3,
  nInner: 40,
  layerNormEpsilon: 1e-5,
  initializerRange: 0.15,
  embdPdrop: 0,
  attnPdrop: 0,
  residPdrop: 0,
};

export const stepOptions: NativeStepOptions = {
  learningRate: 1e-3,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
  weightDecay: 0.1,
  maxGradNorm: 1,
};

export function create(config: Partial<NativeConfig> = {}, options: EngineOptions = {}): Promise<NativeModel> {
  return native().createModel(
    { ...smallConfig, ...config },
    { device: 'cpu', precision: 'fp32', stochasticRounding: false, threads: 2, seed: 7, weights: 'random', ...options },
  );
}

/** The fixture's model with its starting weights. */
export async function createFrom(fixture: Fixture, options: EngineOptions = {}): Promise<NativeModel> {
  const model = await create(fixture.config, options);
  for (const { name } of model.tensors()) await model.writeTensor('param', name, fixture.tensor(`param/${name}`));
  return model;
}

/** Ids, and labels of which every seventh is ignored, from a fixed rule. */
export function batchOf(config: NativeConfig, batchSize: number, blockSize: number, salt = 0) {
  const at = (i: number, factor: number) => (Math.imul(i + 11 * salt + 1, factor) >>> 7) % config.vocabSize;
  const length = batchSize * blockSize;
  return {
    inputIds: Int32Array.from({ length }, (_, i) => at(i, 0x9e3779b1)),
    labels: Int32Array.from({ length }, (_, i) => (i % 7 === 6 ? -100 : at(i, 0x85ebca6b))),
    batchSize,
    blockSize,
  };
}

export type TestBatch = ReturnType<typeof batchOf>;

export function forwardBackward(model: NativeModel, batch: TestBatch) {
  return model.forwardBackward(batch.inputIds, batch.labels, batch.batchSize, batch.blockSize);
}

export function evaluate(model: NativeModel, batch: TestBatch) {
  return model.evaluate(batch.inputIds, batch.labels, batch.batchSize, batch.blockSize);
}

export async function readAll(model: NativeModel, kind: 'param' | 'grad'): Promise<Map<string, Float32Array>> {
  const tensors = new Map<string, Float32Array>();
  for (const { name } of model.tensors()) tensors.set(name, await model.readTensor(kind, name));
  return tensors;
}

/** ||value - truth|| / ||truth||, in float64. */
export function relativeL2(value: ArrayLike<number>, truth: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < truth.length; i++) {
    difference += (value[i]! - truth[i]!) ** 2;
    norm += truth[i]! ** 2;
  }
  return Math.sqrt(difference / (norm || 1));
}

/** The largest error over the largest true value. */
export function relativeMax(value: ArrayLike<number>, truth: ArrayLike<number>): number {
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < truth.length; i++) {
    difference = Math.max(difference, Math.abs(value[i]! - truth[i]!));
    largest = Math.max(largest, Math.abs(truth[i]!));
  }
  return difference / (largest || 1);
}

export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
