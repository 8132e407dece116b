import { readdirSync } from 'node:fs';
import { BlockDataset, type BlockDatasetOptions } from '../../../dist/data/index.js';
import { type FileOptions, FileSource } from '../../../dist/data/sources/file-source.js';
import type { TextPosition } from '../../../dist/data/sources/text-source.js';
import type { KotodamaError } from '../../../dist/errors.js';
import { NUMBERS } from './blocks.js';

/** All texts of some sources, from a position on. */
export async function textsOf(
  names: string | string[],
  options: FileOptions = {},
  from: TextPosition = { file: 0, offset: 0 },
): Promise<string[]> {
  const texts = [];
  for await (const chunk of new FileSource([names].flat(), options).read(from)) texts.push(...chunk.texts);
  return texts;
}

/** The texts, and what ended them. */
export async function textsAndFailure(
  names: string | string[],
  options: FileOptions = {},
): Promise<{ texts: string[]; failure: KotodamaError | undefined }> {
  const texts: string[] = [];
  try {
    for await (const chunk of new FileSource([names].flat(), options).read({ file: 0, offset: 0 })) {
      texts.push(...chunk.texts);
    }
  } catch (error) {
    return { texts, failure: error as KotodamaError };
  }
  return { texts, failure: undefined };
}

/** NUMBERS with an end-of-text id. */
export const NUMBERS_EOS = { ...NUMBERS, eosTokenId: 998 };

/** The ids of all inputs of a dataset of blocks of one id: every id but the last. */
export async function idsOf(names: string | string[], options: Partial<BlockDatasetOptions> & { textField?: string }) {
  const ids: number[] = [];
  const dataset = BlockDataset.fromFile(names, { tokenizer: NUMBERS_EOS, blockSize: 1, ...options });
  let last = -1;
  for await (const { inputIds, labels } of dataset) {
    ids.push(inputIds[0]);
    last = labels[0];
  }
  return [...ids, last];
}

/** Files that this process holds open. */
export function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}
