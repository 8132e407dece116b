import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Batch, Block, BlockSource, Json } from '../../../dist/data/index.js';
import type { TokenizerModel } from '../../../dist/tokenizer/index.js';
import { temporaryFolder } from './temporary-folder.js';

/** A folder with a real byte-level BPE tokenizer. */
export const TOKENIZER_FOLDER = fileURLToPath(new URL('../../../demo/tokenizer', import.meta.url));

/** Every number of a text is one id: '3 1 4' is [3, 1, 4]. */
export const NUMBERS: TokenizerModel = {
  vocabSize: 100_000,
  bosTokenId: undefined,
  eosTokenId: undefined,
  padTokenId: 999,
  unkTokenId: undefined,
  encode: (text) => text.split(' ').filter(Boolean).map(Number),
  decode: (ids) => Array.from(ids).join(' '),
};

/** A text of NUMBERS with the ids from `from` to below `to`. */
export function numbers(from: number, to: number): string {
  return Array.from({ length: to - from }, (_, i) => from + i).join(' ');
}

/** Writes a file into a new folder and gives its path. */
export function temporaryFile(content: string | Uint8Array, name = 'text.txt'): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content);
  return path;
}

export function folderOf(path: string): string {
  return dirname(path);
}

/** Inputs and labels of a block or batch as plain arrays. */
export function plain({ inputIds, labels }: Block | Batch): { inputIds: number[]; labels: number[] } {
  const list = (part: Block['inputIds'] | Batch['inputIds']) => Array.from('data' in part ? part.data : part);
  return { inputIds: list(inputIds), labels: list(labels) };
}

export async function collect(source: AsyncIterable<Block | Batch>): Promise<ReturnType<typeof plain>[]> {
  const result = [];
  for await (const item of source) result.push(plain(item));
  return result;
}

/** What can be stopped and continued. */
export type Resumable = AsyncIterable<Block | Batch> & Pick<BlockSource, 'state' | 'restore'>;

/**
 * Stops after every number of items, and compares what a new source makes of the saved state, through JSON, with what an
 * uninterrupted one gives: the rest of the epoch and the whole next epoch. Gives the first difference, or undefined.
 */
export async function resumeProblem(make: () => Resumable, stops?: readonly number[]): Promise<string | undefined> {
  const source = make();
  const states: Json[] = [source.state()];
  const first = [];
  for await (const item of source) {
    first.push(plain(item));
    states.push(source.state());
  }
  const second = await collect(source);
  for (const stop of stops ?? states.keys()) {
    const resumed = make();
    resumed.restore(JSON.parse(JSON.stringify(states[stop])));
    const rest = await collect(resumed);
    if (JSON.stringify(rest) !== JSON.stringify(first.slice(stop))) return `rest after ${stop}`;
    if (JSON.stringify(await collect(resumed)) !== JSON.stringify(second)) return `next epoch after ${stop}`;
  }
  return undefined;
}

/** A source of blocks [k, k + 1, ...] for tests of what comes after. */
export function countingSource(count: number, blockSize = 2): BlockSource & { pulled: number } {
  let start = 0;
  let next = 0;
  return {
    blockSize,
    pulled: 0,
    async *[Symbol.asyncIterator]() {
      next = start;
      start = 0;
      while (next < count) {
        const k = next++;
        this.pulled++;
        const ids = Int32Array.from({ length: blockSize + 1 }, (_, i) => k + i);
        yield { inputIds: ids.slice(0, blockSize), labels: ids.slice(1) };
      }
      next = 0;
    },
    state: () => next,
    restore(state) {
      start = Number(state);
      next = start;
    },
  };
}
