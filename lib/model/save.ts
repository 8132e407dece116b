import { readFile, realpath, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { copyIntoFolder, ioError, makeFolder, syncFolder, writeAtomically, writeJsonFile } from '../files.js';
import { TOKENIZER_NAMES } from '../tokenizer/tokenizer-files.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { checkPath, OptionReader } from '../validate.js';
import type { GPT2Config } from './config.js';
import { configToHuggingFace } from './hf-config.js';
import type { TensorSource } from './tensor-source.js';
import { checkTokenizerFits } from './tokenizer-fit.js';
import { readWeights, WEIGHT_NAMES, type WeightOptions, writeWeights } from './write-weights.js';

/** A tokenizer whose files can be saved beside the model. */
export type SavedTokenizer = TokenizerModel & {
  readonly files?: readonly string[] | undefined;
  /** Their contents, by their paths [as they are on the disk when they are copied]. */
  readonly contents?: ReadonlyMap<string, Uint8Array> | undefined;
  /** Transformers' class for it, where one is named. */
  readonly className?: string | undefined;
};

/** The file that says what a saved model is like. */
export const CONFIG_FILE = 'config.json';

/** How a model is saved. */
export interface SaveOptions extends WeightOptions {
  /**
   * Its files are copied beside the weights, and those of another tokenizer that the folder held are removed; without it, a
   * tokenizer that the folder holds stays.
   */
  tokenizer?: SavedTokenizer | undefined;
}

/** @throws KotodamaError `ERR_OPTIONS` */
export function readSaveOptions(options: SaveOptions): SaveOptions {
  const read = new OptionReader(options);
  read.onlyKnown(['tokenizer', ...WEIGHT_NAMES]);
  const { tokenizer } = read.values as SaveOptions;
  if (tokenizer !== undefined && typeof tokenizer?.encode !== 'function') {
    read.problem('tokenizer', 'a tokenizer', tokenizer);
  }
  return { tokenizer, ...readWeights(read) };
}

/** What a folder in Hugging Face's layout is made of. */
export interface PretrainedParts {
  config: Readonly<GPT2Config>;
  /** Every parameter, under the names and in the order of `model.tensors`. */
  weights: readonly TensorSource[];
  tokenizer: SavedTokenizer | undefined;
}

/**
 * Writes such a folder: each file is replaced atomically, and the folder is made when it is missing. With a tokenizer, files
 * of another one are removed; without one, those that the folder holds stay as they are.
 *
 * @throws KotodamaError `ERR_TOKENIZER` when the tokenizer does not fit the model, `ERR_IO` when the system refuses
 */
export async function writePretrained(
  folder: string,
  { config, weights, tokenizer }: PretrainedParts,
  options: WeightOptions = {},
): Promise<void> {
  checkPath('the folder to save the model in', folder);
  if (tokenizer !== undefined) checkTokenizerFits(config, tokenizer);
  await makeFolder(folder).catch((cause) => {
    throw ioError(cause, `${folder} could not be made`);
  });
  if (tokenizer !== undefined) await writeTokenizer(folder, tokenizer);
  await writeWeights(folder, weights, options);
  const saved = { ...config };
  saved.bosTokenId ??= tokenizer?.bosTokenId;
  saved.eosTokenId ??= tokenizer?.eosTokenId;
  saved.padTokenId ??= tokenizer?.padTokenId;
  const notes = { dtype: options.dtype, tokenizerClass: tokenizer?.className };
  await writeJsonFile(join(folder, CONFIG_FILE), configToHuggingFace(saved, notes));
}

/** Writes a tokenizer's files; once they are there, those of another one that the folder held are removed. */
async function writeTokenizer(folder: string, { files = [], contents }: SavedTokenizer): Promise<void> {
  for (const path of files) {
    const content = contents?.get(path);
    if (content === undefined) await copyIntoFolder(path, folder);
    else await writeAtomically(join(folder, basename(path)), (file) => file.writeFile(content));
  }
  const own = files.map((path) => basename(path));
  // Beside its very files may lie other forms of the same tokenizer.
  if (own.length === 0 || (await isFolderOf(files, folder))) return;
  try {
    for (const name of TOKENIZER_NAMES) if (!own.includes(name)) await rm(join(folder, name), { force: true });
    await syncFolder(folder);
  } catch (cause) {
    throw ioError(cause, `The files of another tokenizer in ${folder} could not be removed`);
  }
}

/** Errors of a path that leads nowhere: whoever writes there will say so. */
const NOTHING_THERE = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG', 'ERR_INVALID_ARG_VALUE'];

/** Names of the tokenizer's files that a folder holds with another content: saving the tokenizer there would replace them. */
export async function differentTokenizerFiles(
  folder: string,
  { files = [], contents }: SavedTokenizer,
): Promise<string[]> {
  const names: string[] = [];
  for (const path of files) {
    const there = await readFile(join(folder, basename(path))).catch((cause: NodeJS.ErrnoException) => {
      // What cannot be read cannot be the same.
      return NOTHING_THERE.includes(cause.code ?? '') ? undefined : null;
    });
    if (there === undefined) continue;
    if (there === null || !there.equals(contents?.get(path) ?? (await readFile(path)))) names.push(basename(path));
  }
  return names;
}

async function isFolderOf(files: readonly string[], folder: string): Promise<boolean> {
  const real = (path: string) => realpath(path).catch(() => resolve(path));
  const folders = await Promise.all(files.map((path) => real(dirname(path))));
  return folders.includes(await real(folder));
}
