import { existsSync } from 'node:fs';
import { readdir, readFile, realpath, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { KotodamaError } from '../errors.js';
import { ioError, jsonText, makeFolder, StagedFiles, syncFolder, type WriteFile } from '../files.js';
import { TOKENIZER_NAMES } from '../tokenizer/tokenizer-files.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { checkPath, OptionReader } from '../validate.js';
import type { GPT2Config } from './config.js';
import { configToHuggingFace } from './hf-config.js';
import type { TensorSource } from './tensor-source.js';
import { checkTokenizerFits } from './tokenizer-fit.js';
import { isWeightsName, readWeights, WEIGHT_NAMES, type WeightOptions, writeWeights } from './write-weights.js';

/** A tokenizer whose files can be saved beside the model. */
export type SavedTokenizer = TokenizerModel & {
  readonly files?: readonly string[] | undefined;
  /**
   * Their contents, by their paths [as they are on the disk when they are copied]. Without `files` those of a tokenizer that
   * has none yet, by the names that they get.
   */
  readonly contents?: ReadonlyMap<string, Uint8Array> | undefined;
  /** Transformers' class for it, where one is named. */
  readonly className?: string | undefined;
};

/** The file that says what a saved model is like. */
export const CONFIG_FILE = 'config.json';

/** How a model is saved. */
export interface SaveOptions extends WeightOptions {
  /**
   * Its files are written beside the weights, and those of another tokenizer that the folder held are removed; without it, a
   * tokenizer that the folder holds stays. One of your own that has neither `files` nor `contents` leaves none, and is
   * refused where the folder holds another.
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
 * Writes such a folder, which is made when it is missing. With a tokenizer, files of another one are removed; without one,
 * those that the folder holds stay as they are. What goes wrong while the files are written leaves the model that the folder
 * held; what ends the process while they get their names leaves that one, the new one or a folder without config.json, which
 * nothing loads.
 *
 * @throws KotodamaError `ERR_TOKENIZER` when the tokenizer does not fit the model, or has no files and the folder holds those
 *   of another; `ERR_IO` when the system refuses
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
  if (tokenizer !== undefined) checkHoldsNoOther(folder, tokenizer);
  const files = new StagedFiles();
  try {
    if (tokenizer !== undefined) await writeTokenizer(folder, tokenizer, files.write);
    await writeWeights(folder, weights, options, files.write);
    const saved = { ...config };
    saved.bosTokenId ??= tokenizer?.bosTokenId;
    saved.eosTokenId ??= tokenizer?.eosTokenId;
    saved.padTokenId ??= tokenizer?.padTokenId;
    const notes = { dtype: options.dtype, tokenizerClass: tokenizer?.className };
    const text = jsonText(configToHuggingFace(saved, notes));
    await files.write(join(folder, CONFIG_FILE), (file) => file.writeFile(text));
    await replaceModel(folder, files, tokenizer).catch((cause) => {
      throw ioError(cause, `The model could not be put into ${folder}`);
    });
  } finally {
    await files.discard();
  }
}

/**
 * Gives the files their names, and removes those of the model before that would be taken for parts of this one. Where more
 * than one file changes, config.json is away meanwhile: without it neither Transformers nor we load a mix of both models.
 */
async function replaceModel(folder: string, files: StagedFiles, tokenizer: SavedTokenizer | undefined): Promise<void> {
  const config = join(folder, CONFIG_FILE);
  const { waiting } = files;
  const names = waiting.map(([path]) => basename(path));
  const others = await othersIn(folder, names, tokenizer);
  const changed = await Promise.all(waiting.map(([path, temporary]) => isChange(path, temporary)));
  if (others.length + changed.filter(Boolean).length > 1) {
    await rm(config, { force: true });
    await syncFolder(folder);
  }
  for (const name of others) await rm(join(folder, name), { force: true });
  for (const [path] of waiting) if (path !== config) await files.place(path);
  await syncFolder(folder);
  await files.place(config);
  await syncFolder(folder);
}

/** Names of weights in a folder, and with a tokenizer those of files of another one, that are not among `own`. */
async function othersIn(
  folder: string,
  own: readonly string[],
  tokenizer: SavedTokenizer | undefined,
): Promise<string[]> {
  // Beside a tokenizer's very files may lie other forms of the same one.
  const stays = tokenizer === undefined || pathsOf(tokenizer).length === 0 || (await isFolderOf(tokenizer, folder));
  const isOther = (name: string) => isWeightsName(name) || (!stays && TOKENIZER_NAMES.includes(name));
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
  return names.filter((name) => isOther(name) && !own.includes(name));
}

/** Whether a file will differ from the one that has its name; of weights, which are large, that is taken for granted. */
async function isChange(path: string, temporary: string): Promise<boolean> {
  if (isWeightsName(basename(path))) return true;
  const [before, after] = await Promise.all([readFile(path).catch(() => undefined), readFile(temporary)]);
  return before === undefined || !before.equals(after);
}

async function writeTokenizer(folder: string, tokenizer: SavedTokenizer, write: WriteFile): Promise<void> {
  for (const path of pathsOf(tokenizer)) {
    await write(join(folder, basename(path)), async (file) =>
      file.writeFile(tokenizer.contents?.get(path) ?? (await readFile(path))),
    );
  }
}

/** Errors of a path that leads nowhere: whoever writes there will say so. */
const NOTHING_THERE = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG', 'ERR_INVALID_ARG_VALUE'];

/** Names of the tokenizer's files that a folder holds with another content: saving the tokenizer there would replace them. */
export async function differentTokenizerFiles(folder: string, tokenizer: SavedTokenizer): Promise<string[]> {
  const names: string[] = [];
  for (const path of pathsOf(tokenizer)) {
    const there = await readFile(join(folder, basename(path))).catch((cause: NodeJS.ErrnoException) => {
      // What cannot be read cannot be the same.
      return NOTHING_THERE.includes(cause.code ?? '') ? undefined : null;
    });
    if (there === undefined) continue;
    if (there === null || !there.equals(tokenizer.contents?.get(path) ?? (await readFile(path))))
      names.push(basename(path));
  }
  return names;
}

/**
 * A tokenizer that leaves no files must not be saved beside those of another, which would be taken for it.
 *
 * @throws KotodamaError `ERR_TOKENIZER` that names them
 */
export function checkHoldsNoOther(folder: string, tokenizer: SavedTokenizer): void {
  if (pathsOf(tokenizer).length > 0) return;
  const names = TOKENIZER_NAMES.filter((name) => existsSync(join(folder, name)));
  if (names.length === 0) return;
  throw new KotodamaError('ERR_TOKENIZER', `${folder} holds the files of a tokenizer`, {
    expected: 'none, or a tokenizer with `files` or `contents` to put in their place',
    received: names.join(', '),
    hint: 'choose another folder, or save the tokenizer first and give what Tokenizer.fromPretrained makes of it',
  });
}

/** Where the files of a tokenizer lie; for those that do not lie anywhere yet, their names. */
function pathsOf({ files = [], contents }: SavedTokenizer): readonly string[] {
  return files.length > 0 ? files : [...(contents?.keys() ?? [])];
}

async function isFolderOf({ files = [] }: SavedTokenizer, folder: string): Promise<boolean> {
  const real = (path: string) => realpath(path).catch(() => resolve(path));
  const folders = await Promise.all(files.map((path) => real(dirname(path))));
  return folders.includes(await real(folder));
}
