import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { ioError, isTemporaryName, readJsonFile } from '../files.js';
import { type FileChoice, folderOf, type HubOptions, hubHint } from '../hub/index.js';
import { alternatives, checkPath } from '../validate.js';
import { type GPT2Config, parameterShapes } from './config.js';
import { configFromHuggingFace } from './hf-config.js';
import { openLlmcWeights, readLlmcConfig } from './llmc.js';
import { checkModelFile, isFile } from './model-file.js';
import type { TensorEntry } from './safetensors.js';
import type { OpenWeights } from './tensor-source.js';
import { chooseWeightFiles, SINGLE_FILE, WeightFiles } from './weight-files.js';

const CONFIG = 'config.json';

/** Causal masks that old Transformers versions saved as if they were weights. */
const BUFFERS = /\.attn\.(bias|masked_bias)$/;

/** Prefixes under which the same tensors are found in the wild. */
const PREFIX = /^(?:model\.)?(?:transformer\.)?/;

/**
 * Where a model lies: in a folder in Hugging Face's layout, also of the Hub, from which it is fetched then; or in a file of
 * llm.c's.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` for another file
 */
export async function modelPath(name: string, options?: HubOptions): Promise<string> {
  if (await isFile(name)) {
    await checkModelFile(name);
    return name;
  }
  return modelFolder(name, (names, where) => [CONFIG, ...chooseWeightFiles(names, where)], options);
}

/** The configuration of a model in a folder, a file or on the Hub. */
export async function readConfig(folderOrName: string, options?: HubOptions): Promise<GPT2Config> {
  if (await isFile(folderOrName)) {
    await checkModelFile(folderOrName);
    return readLlmcConfig(folderOrName);
  }
  const path = join(await modelFolder(folderOrName, () => [CONFIG], options), CONFIG);
  return configFromHuggingFace(await readJsonFile(path, 'ERR_MODEL_FILE'), path);
}

async function modelFolder(name: string, choose: FileChoice, options?: HubOptions): Promise<string> {
  checkPath('the model', name);
  const folder = await folderOf(name, choose, options);
  if (!existsSync(folder)) {
    throw new KotodamaError('ERR_IO', `There is no model ${name}`, { hint: hubHint('model', name) });
  }
  checkHoldsModel(folder);
  return folder;
}

/** Names that a message lists. */
const NAMED = 8;

/**
 * Looks for a model in a folder that is there. The one above a run, or above several models, is easily taken for it.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` that says what is there instead, `ERR_IO` when the folder cannot be read
 */
export function checkHoldsModel(folder: string): void {
  const holds = (path: string) => existsSync(join(path, CONFIG));
  if (holds(folder)) return;
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch (cause) {
    throw ioError(cause, `${folder} could not be read`);
  }
  const models = names.map((name) => join(folder, name)).filter(holds);
  const isCutShort = names.some((name) => name.startsWith(`.${CONFIG}.`) && isTemporaryName(name));
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  throw new KotodamaError('ERR_MODEL_FILE', `${folder} holds no model`, {
    expected: `${CONFIG} and ${SINGLE_FILE}`,
    received: names.length === 0 ? 'an empty folder' : `only ${names.slice(0, NAMED).join(', ')}${more}`,
    hint:
      models.length > 0
        ? `did you mean ${alternatives(models.slice(0, NAMED))}?`
        : isCutShort
          ? 'a save into it was cut short: save the model again'
          : "give the folder of a run that has saved, or of a model in Hugging Face's layout",
  });
}

/**
 * Opens the weights of the model in a folder or file, under the names of {@link parameterShapes}.
 *
 * Names in a folder's files may lack `transformer.` or have `model.` before it; `lm_head.weight` may be there when it equals
 * the token embedding, with which it is tied, or stand for it, as `safetensors.torch.save_model` leaves it.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` that names the tensor which is missing, unknown or of another shape
 */
export async function openWeights(path: string, config: GPT2Config): Promise<OpenWeights> {
  if (await isFile(path)) return openLlmcWeights(path);
  const files = await WeightFiles.open(path);
  try {
    const entries = matchTensors(files, config);
    await checkHead(files, entries);
    const tensors = parameterShapes(config).map(({ name, shape }) => ({
      name,
      shape,
      read: () => files.read(entry(entries, name).name),
    }));
    return { tensors, close: () => files.close() };
  } catch (error) {
    await files.close();
    throw error;
  }
}

/** Reads these weights one tensor at a time; what is wrong with the files shows before the first `write`. */
export async function readWeights(
  path: string,
  config: GPT2Config,
  write: (name: string, values: Float32Array) => Promise<void>,
): Promise<void> {
  const { tensors, close } = await openWeights(path, config);
  try {
    for (const { name, read } of tensors) await write(name, await read());
  } finally {
    await close();
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
  const head = entries.get(HEAD);
  if (head !== undefined && !entries.has(EMBEDDING)) entries.set(EMBEDDING, head);
  for (const name of shapes.keys()) {
    if (name !== HEAD && !entries.has(name)) fail(files, `tensor '${name}' is missing`);
  }
  return entries;
}

async function checkHead(files: WeightFiles, entries: Map<string, TensorEntry>): Promise<void> {
  const head = entries.get(HEAD);
  if (head === undefined || head === entries.get(EMBEDDING)) return;
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
