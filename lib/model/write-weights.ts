import { join } from 'node:path';
import { jsonText, type WriteFile } from '../files.js';
import { OptionReader } from '../validate.js';
import { FLOAT_TYPES, type FloatType } from './encoding.js';
import { elements } from './file-parts.js';
import { writeSafetensors } from './safetensors.js';
import { storedBytes, type TensorSource } from './tensor-source.js';
import { INDEX_FILE, SINGLE_FILE } from './weight-files.js';

/** How weights are written into a folder. */
export interface WeightOptions {
  /** What the numbers are stored as; `f16` and `bf16` lose precision. Default `f32`. */
  dtype?: FloatType | undefined;
  /** Bytes above which the weights go into several files with an index; a single tensor is never divided. Default: never. */
  maxShardBytes?: number | undefined;
}

/** @throws KotodamaError `ERR_OPTIONS` */
export function readWeightOptions(options: WeightOptions): WeightOptions {
  const read = new OptionReader(options);
  read.onlyKnown(WEIGHT_NAMES);
  return readWeights(read);
}

/** The names of {@link WeightOptions}. */
export const WEIGHT_NAMES = ['dtype', 'maxShardBytes'];

/** The same of options that hold others, too; nothing else may be left to check. */
export function readWeights(read: OptionReader): WeightOptions {
  const dtype = read.choice('dtype', FLOAT_TYPES, 'f32');
  const maxShardBytes = read.integer('maxShardBytes', { min: 1 }, Number.POSITIVE_INFINITY);
  read.finish('The model cannot be saved so');
  return { dtype, maxShardBytes };
}

/**
 * Writes weights into a folder as Transformers does: `model.safetensors`, or `model-00001-of-00003.safetensors` and so on
 * with `model.safetensors.index.json`.
 *
 * @param write when the files get their names
 */
export async function writeWeights(
  folder: string,
  tensors: readonly TensorSource[],
  { dtype = 'f32', maxShardBytes = Number.POSITIVE_INFINITY }: WeightOptions,
  write: WriteFile,
): Promise<void> {
  const shards = shardsOf(tensors, dtype, maxShardBytes);
  const names = shards.length === 1 ? [SINGLE_FILE] : shards.map((_, index) => shardName(index, shards.length));
  for (const [index, shard] of shards.entries()) {
    await writeSafetensors(join(folder, names[index] as string), shard, { format: 'pt' }, dtype, write);
  }
  if (shards.length === 1) return;
  const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
  const metadata = {
    total_parameters: sum(tensors.map(({ shape }) => elements(shape))),
    total_size: sum(tensors.map(({ shape }) => storedBytes(shape, dtype))),
  };
  const places = shards.flatMap((shard, index) => shard.map(({ name }) => [name, names[index]]));
  const index = jsonText({ metadata, weight_map: Object.fromEntries(places) });
  await write(join(folder, INDEX_FILE), (file) => file.writeFile(index));
}

/** Whether a name is one that {@link writeWeights} gives. */
export function isWeightsName(name: string): boolean {
  return /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/.test(name);
}

function shardName(index: number, count: number): string {
  const digits = (number: number) => String(number).padStart(5, '0');
  return `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

/** In the order of the tensors, as many of them at a time as fit. */
function shardsOf(tensors: readonly TensorSource[], dtype: FloatType, most: number): TensorSource[][] {
  const shards: TensorSource[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const more = storedBytes(tensor.shape, dtype);
    if (bytes > 0 && bytes + more > most) {
      shards.push([]);
      bytes = 0;
    }
    (shards.at(-1) as TensorSource[]).push(tensor);
    bytes += more;
  }
  return shards;
}
