import { readdirSync } from 'node:fs';
import { BlockDataset, type BlockDatasetOptions } from '../../../dist/data/index.js';
import { type FileOptions, FileSource } from '../../../dist/data/sources/file-source.js';
import { contentOf, reportProblems, type TextVisitor, visitTexts } from '../../../dist/data/sources/read-chunk.js';
import type { TextPosition, TextSource } from '../../../dist/data/sources/text-source.js';
import type { KotodamaError } from '../../../dist/errors.js';
import { NUMBERS } from './blocks.js';

/** A text with its place. */
export interface Placed {
  text: string;
  offset: number;
}

/** The texts of a source from a position on, chunk by chunk, as they are read in whatever thread. */
export async function* chunksOf(
  source: TextSource,
  from: TextPosition = { file: 0, offset: 0 },
  onBad?: (problem: KotodamaError) => void,
): AsyncGenerator<{ texts: Placed[]; end: number }> {
  for await (const chunk of source.read(from)) {
    const texts: Placed[] = [];
    const visitor: TextVisitor = {
      utf8: (bytes, start, end, offset) =>
        texts.push({ text: Buffer.from(bytes).toString('utf8', start, end), offset }),
      text: (text, offset) => texts.push({ text, offset: chunk.kind === 'texts' ? chunk.offsets[offset] : offset }),
    };
    const read = visitTexts(structuredClone(contentOf(chunk)), visitor, onBad !== undefined);
    yield { texts, end: chunk.end };
    await reportProblems(chunk, read, onBad);
  }
}

/** All texts of some sources, from a position on. */
export async function textsOf(
  names: string | string[],
  options: FileOptions = {},
  from: TextPosition = { file: 0, offset: 0 },
): Promise<string[]> {
  const texts = [];
  const chunks = chunksOf(new FileSource([names].flat(), options), from, options.onBad);
  for await (const chunk of chunks) texts.push(...chunk.texts.map(({ text }) => text));
  return texts;
}

/** The texts, and what ended them. */
export async function textsAndFailure(
  names: string | string[],
  options: FileOptions = {},
): Promise<{ texts: string[]; failure: KotodamaError | undefined }> {
  const texts: string[] = [];
  try {
    for await (const chunk of chunksOf(new FileSource([names].flat(), options), undefined, options.onBad)) {
      texts.push(...chunk.texts.map(({ text }) => text));
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
