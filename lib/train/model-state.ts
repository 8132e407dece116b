import { join } from 'node:path';
import type { GPT2 } from '../model/gpt2.js';
import { readConfig, readWeights } from '../model/pretrained.js';
import type { OptimizerState } from '../model/results.js';
import { SafetensorsFile, type TensorSource, writeSafetensors } from '../model/safetensors.js';
import { OPTIMIZER_FILE } from './checkpoint.js';

const first = (name: string) => `exp_avg.${name}`;
const second = (name: string) => `exp_avg_sq.${name}`;

/** The numbers of a model that a checkpoint holds, in the order in which they are written. */
export interface ModelState {
  weights: readonly TensorSource[];
  /** AdamW's, in float32: `exp_avg.<parameter>` and `exp_avg_sq.<parameter>`. */
  moments: readonly TensorSource[];
}

/** Bytes that {@link copyState} takes: the weights and both moments in float32. */
export function stateBytes(model: GPT2): number {
  return 12 * model.parameterCount;
}

/** The state as the model has it when its turn comes to be written: nothing may change the model until then. */
export function liveState(model: GPT2): ModelState {
  const weights = model.tensors.map(({ name, shape }) => ({ name, shape, read: () => model.readTensor(name) }));
  const moments = model.tensors.flatMap(({ name, shape }): TensorSource[] => {
    // The engine gives both moments at once; the second one waits here for its turn.
    let state: OptimizerState | undefined;
    return [
      {
        name: first(name),
        shape,
        async read() {
          state = await model.readOptimizerState(name);
          return state.expAvg;
        },
      },
      {
        name: second(name),
        shape,
        read() {
          const { expAvgSq } = state as OptimizerState;
          state = undefined;
          return expAvgSq;
        },
      },
    ];
  });
  return { weights, moments };
}

/** A copy of the state in the process's memory. Each tensor can be read once, which lets go of it. */
export async function copyState(model: GPT2): Promise<ModelState> {
  const { weights, moments } = liveState(model);
  return { weights: await copies(weights), moments: await copies(moments) };
}

async function copies(sources: readonly TensorSource[]): Promise<TensorSource[]> {
  const copied: TensorSource[] = [];
  for (const { name, shape, read } of sources) {
    let values: Float32Array | undefined = await read();
    copied.push({
      name,
      shape,
      read() {
        const given = values as Float32Array;
        values = undefined;
        return given;
      },
    });
  }
  return copied;
}

/** Writes the moments into a checkpoint's folder. */
export async function writeMoments(folder: string, moments: readonly TensorSource[]): Promise<void> {
  await writeSafetensors(join(folder, OPTIMIZER_FILE), moments);
}

/**
 * Makes a model one that was never trained, but for its weights: a run depends on nothing else. Moments that were written by
 * hand before the first step stay.
 */
export async function forgetTraining(model: GPT2): Promise<void> {
  await model.zeroGradients();
  const { step, microStep } = model.counters;
  if (step > 0) {
    for (const { name, shape } of model.tensors) {
      const zeros = new Float32Array(shape.reduce((size, length) => size * length, 1));
      await model.writeOptimizerState(name, { expAvg: zeros, expAvgSq: zeros });
    }
  }
  if (step + microStep > 0) model.counters = { step: 0, microStep: 0 };
}

/**
 * Puts a checkpoint's weights and moments into a model of the same shape.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` when a tensor is missing or of another shape.
 */
export async function readCheckpointTensors(model: GPT2, folder: string): Promise<void> {
  await readWeights(folder, await readConfig(folder), (name, values) => model.writeTensor(name, values));
  const file = await SafetensorsFile.open(join(folder, OPTIMIZER_FILE));
  try {
    for (const { name } of model.tensors) {
      const expAvg = await file.read(first(name));
      const expAvgSq = await file.read(second(name));
      await model.writeOptimizerState(name, { expAvg, expAvgSq });
    }
  } finally {
    await file.close();
  }
}
