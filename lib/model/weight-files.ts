import { access } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { readJsonFile } from '../files.js';
import { describe } from '../validate.js';
import { pickle } from './model-file.js';
import { SafetensorsFile, type TensorEntry } from './safetensors.js';

export const SINGLE_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';
const PICKLES = ['pytorch_model.bin', 'pytorch_model.bin.index.json'];

/**
 * The weights among a repository's files.
 *
 * @param where the repository, for the error
 * @throws KotodamaError `ERR_MODEL_FILE` when there is nothing but a pickle
 */
export function chooseWeightFiles(names: readonly string[], where: string): string[] {
  if (names.includes(SINGLE_FILE)) return [SINGLE_FILE];
  if (names.includes(INDEX_FILE)) return [INDEX_FILE, ...names.flatMap(partsOf)];
  const found = PICKLES.find((name) => names.includes(name));
  if (found === undefined) return [SINGLE_FILE];
  throw new KotodamaError('ERR_MODEL_FILE', `${where} has only ${found}, a Python pickle, which can run any code`, {
    expected: SINGLE_FILE,
    hint:
      'a pull request there may have it (revision refs/pr/1, say), or in Python: ' +
      '`GPT2LMHeadModel.from_pretrained(name).save_pretrained(folder)`',
  });
}

/** All parts when given the first one, `model-00001-of-00003.safetensors`. */
function partsOf(name: string): string[] {
  const [, count] = /^model-0*1-of-(\d{1,5})\.safetensors$/.exec(name) ?? [];
  if (count === undefined) return [];
  const digits = (index: number) => String(index).padStart(count.length, '0');
  return Array.from({ length: Number(count) }, (_, index) => `model-${digits(index + 1)}-of-${count}.safetensors`);
}

/** The weights in a folder, be they one file or several with an index. */
export class WeightFiles {
  private constructor(
    /** Named in errors. */
    readonly path: string,
    /** Where each tensor lies, by its name in the files. */
    readonly tensors: ReadonlyMap<string, TensorEntry>,
    private readonly files: readonly SafetensorsFile[],
  ) {}

  /** @throws KotodamaError `ERR_MODEL_FILE` or `ERR_IO` */
  static async open(folder: string): Promise<WeightFiles> {
    const single = join(folder, SINGLE_FILE);
    const index = join(folder, INDEX_FILE);
    if (await exists(single)) return WeightFiles.openAll(single, [single]);
    if (await exists(index)) return WeightFiles.openAll(index, await readIndex(folder, index));
    for (const name of PICKLES) if (await exists(join(folder, name))) throw pickle(join(folder, name), folder);
    return WeightFiles.openAll(single, [single]);
  }

  private static async openAll(path: string, parts: readonly string[]): Promise<WeightFiles> {
    const files: SafetensorsFile[] = [];
    try {
      for (const part of parts) files.push(await SafetensorsFile.open(part));
      const tensors = new Map<string, TensorEntry>();
      for (const entry of files.flatMap((file) => [...file.tensors.values()])) {
        if (tensors.has(entry.name)) {
          throw new KotodamaError('ERR_MODEL_FILE', `${path}: tensor '${entry.name}' is in two files`);
        }
        tensors.set(entry.name, entry);
      }
      return new WeightFiles(path, tensors, files);
    } catch (error) {
      await Promise.all(files.map((file) => file.close()));
      throw error;
    }
  }

  /** The values of one tensor, widened to float32. */
  async read(name: string): Promise<Float32Array> {
    const file = this.files.find((candidate) => candidate.tensors.has(name));
    if (file === undefined) throw new KotodamaError('ERR_MODEL_FILE', `${this.path}: there is no tensor '${name}'`);
    return file.read(name);
  }

  async close(): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }
}

async function readIndex(folder: string, path: string): Promise<string[]> {
  const index = (await readJsonFile(path, 'ERR_MODEL_FILE')) as { weight_map?: unknown } | null;
  const map = index?.weight_map;
  if (typeof map !== 'object' || map === null) {
    throw new KotodamaError('ERR_MODEL_FILE', `${path}: weight_map`, {
      expected: 'an object',
      received: describe(map),
    });
  }
  const names = new Set<unknown>(Object.values(map));
  return [...names].map((name) => {
    // A name with a folder in it could lead anywhere on this machine.
    if (typeof name !== 'string' || name !== basename(name) || !name.endsWith('.safetensors')) {
      const expected = 'names of .safetensors files in the same folder';
      throw new KotodamaError('ERR_MODEL_FILE', `${path}: weight_map`, { expected, received: describe(name) });
    }
    return join(folder, name);
  });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
