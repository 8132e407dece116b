import { join } from 'node:path';
import type { GPT2, OptimizerState } from '../model/gpt2.js';
import { readConfig, readWeights } from '../model/pretrained.js';
import { SafetensorsFile, type TensorSource, writeSafetensors } from '../model/safetensors.js';
import { OPTIMIZER_FILE } from './checkpoint.js';

const first = (name: string) => `exp_avg.${name}`;
const second = (name: string) => `exp_avg_sq.${name}`;

/** Writes AdamW's moments in float32: `exp_avg.<parameter>` and `exp_avg_sq.<parameter>`. */
export async function writeOptimizer(model: GPT2, folder: string): Promise<void> {
  const sources = model.tensors.flatMap(({ name, shape }): TensorSource[] => {
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
  await writeSafetensors(join(folder, OPTIMIZER_FILE), sources);
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
