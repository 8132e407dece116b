import { join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { readJsonFile } from '../files.js';
import { folderOf, type HubOptions } from '../hub/index.js';
import { type GPT2Config, parameterShapes } from './config.js';
import { configFromHuggingFace } from './hf-config.js';
import type { TensorEntry } from './safetensors.js';
import { chooseWeightFiles, WeightFiles } from './weight-files.js';

const CONFIG = 'config.json';

/** Causal masks that old Transformers versions saved as if they were weights. */
const BUFFERS = /\.attn\.(bias|masked_bias)$/;

/** Prefixes under which the same tensors are found in the wild. */
const PREFIX = /^(?:model\.)?(?:transformer\.)?/;

/** The folder of a model, be it given as such or as the name of a model on the Hub, which is fetched then. */
export async function modelFolder(folderOrName: string, options?: HubOptions): Promise<string> {
  return folderOf(folderOrName, (names, where) => [CONFIG, ...chooseWeightFiles(names, where)], options);
}

/** The configuration of the model in a folder or on the Hub. */
export async function readConfig(folderOrName: string, options?: HubOptions): Promise<GPT2Config> {
  const path = join(await folderOf(folderOrName, () => [CONFIG], options), CONFIG);
  return configFromHuggingFace(await readJsonFile(path, 'ERR_MODEL_FILE'), path);
}

/**
 * Reads the weights of the model in a folder, one tensor at a time, under the names of {@link parameterShapes}.
 *
 * Names may lack `transformer.` or have `model.` before it; `lm_head.weight` may be there when it equals the token
 * embedding, with which it is tied.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` that names the tensor which is missing, unknown or of another shape; before the
 *   first `write`.
 */
export async function readWeights(
  folder: string,
  config: GPT2Config,
  write: (name: string, values: Float32Array) => Promise<void>,
): Promise<void> {
  const files = await WeightFiles.open(folder);
  try {
    const entries = matchTensors(files, config);
    await checkHead(files, entries);
    for (const { name } of parameterShapes(config)) await write(name, await files.read(entry(entries, name).name));
  } finally {
    await files.close();
  }
}

const HEAD = 'lm_head.weight';
const EMBEDDING = 'transformer.wte.weight';

/** The file's tensors by our names. */
function matchTensors(files: WeightFiles, config: GPT2Config): Map<string, TensorEntry> {
  const shapes = new Map(parameterShapes(config).map(({ name, shape }) => [name, shape]));
  shapes.set(HEAD, shapes.get(EMBEDDING) as number[]);
  const entries = new Map<string, TensorEntry>();
  for (const found of files.tensors.values()) {
    if (BUFFERS.test(found.name)) continue;
    const bare = found.name.replace(PREFIX, '');
    const name = bare === HEAD ? HEAD : `transformer.${bare}`;
    const shape = shapes.get(name);
    if (shape === undefined) fail(files, `tensor '${found.name}' is not part of this model`, 'compare config.json');
    if (entries.has(name)) fail(files, `tensor '${found.name}' is there twice, also as '${entry(entries, name).name}'`);
    if (`${shape}` !== `${found.shape}`) {
      throw new KotodamaError('ERR_MODEL_FILE', `${files.path}: shape of tensor '${found.name}'`, {
        expected: `[${shape.join(', ')}]`,
        received: `[${found.shape.join(', ')}]`,
        hint: 'the sizes in config.json and the weights do not belong together',
      });
    }
    entries.set(name, found);
  }
  for (const name of shapes.keys()) {
    if (name !== HEAD && !entries.has(name)) fail(files, `tensor '${name}' is missing`);
  }
  return entries;
}

async function checkHead(files: WeightFiles, entries: Map<string, TensorEntry>): Promise<void> {
  const head = entries.get(HEAD);
  if (head === undefined) return;
  const ours = await files.read(head.name);
  const embedding = await files.read(entry(entries, EMBEDDING).name);
  const different = ours.findIndex((value, index) => !Object.is(value, embedding[index]));
  if (different >= 0) {
    fail(
      files,
      `tensor '${head.name}' differs from the token embedding (first at element ${different})`,
      'only models whose head is tied to the embedding can be loaded',
    );
  }
}

function entry(entries: Map<string, TensorEntry>, name: string): TensorEntry {
  return entries.get(name) as TensorEntry;
}

function fail(files: WeightFiles, message: string, hint?: string): never {
  throw new KotodamaError('ERR_MODEL_FILE', `${files.path}: ${message}`, hint === undefined ? {} : { hint });
}
