import { basename, join } from 'node:path';
import { copyIntoFolder, ioError, makeFolder, writeAtomically, writeJsonFile } from '../files.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import type { GPT2Config } from './config.js';
import { configToHuggingFace } from './hf-config.js';
import type { TensorSource } from './tensor-source.js';
import { type WeightOptions, writeWeights } from './write-weights.js';

/** A tokenizer whose files can be saved beside the model. */
export type SavedTokenizer = TokenizerModel & {
  readonly files?: readonly string[];
  /** Their contents, by their paths [as they are on the disk when they are copied]. */
  readonly contents?: ReadonlyMap<string, Uint8Array>;
  /** Transformers' class for it, where one is named. */
  readonly className?: string | undefined;
};

/** What a folder in Hugging Face's layout is made of. */
export interface PretrainedParts {
  config: Readonly<GPT2Config>;
  /** Every parameter, under the names and in the order of `model.tensors`. */
  weights: readonly TensorSource[];
  tokenizer: SavedTokenizer | undefined;
}

/** Writes such a folder: each file is replaced atomically, and the folder is made when it is missing. */
export async function writePretrained(
  folder: string,
  { config, weights, tokenizer }: PretrainedParts,
  options: WeightOptions = {},
): Promise<void> {
  await makeFolder(folder).catch((cause) => {
    throw ioError(cause, `${folder} could not be made`);
  });
  for (const path of tokenizer?.files ?? []) {
    const content = tokenizer?.contents?.get(path);
    if (content === undefined) await copyIntoFolder(path, folder);
    else await writeAtomically(join(folder, basename(path)), (file) => file.writeFile(content));
  }
  await writeWeights(folder, weights, options);
  const saved = { ...config };
  saved.bosTokenId ??= tokenizer?.bosTokenId;
  saved.eosTokenId ??= tokenizer?.eosTokenId;
  saved.padTokenId ??= tokenizer?.padTokenId;
  const notes = { dtype: options.dtype, tokenizerClass: tokenizer?.className };
  await writeJsonFile(join(folder, 'config.json'), configToHuggingFace(saved, notes));
}
