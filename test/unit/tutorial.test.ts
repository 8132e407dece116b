import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import {
  BlockDataset,
  BufferedShuffleDataset,
  DataLoader,
  TokenDataset,
  writeTokenFiles,
} from '../../dist/data/index.js';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import { PythonRandom } from './helpers/python-random.js';
import { temporaryFolder } from './helpers/temporary-folder.js';

const FIXTURES = new URL('./fixtures/', import.meta.url);
const TEXT = fileURLToPath(new URL('tutorial/text.txt', FIXTURES));
const EXPECTED = JSON.parse(readFileSync(new URL('tutorial/expected.json', FIXTURES), 'utf8')) as {
  blocks: string[];
  leftover: number[];
  order: number[];
};

const folder = temporaryFolder();
copyFileSync(new URL('sentencepiece/unigram-nmt-nfkc.model', FIXTURES), join(folder, 'spiece.model'));
const tokenizer = await Tokenizer.fromPretrained(folder);

function digest(inputIds: Int32Array, labels: Int32Array): string {
  const bytes = Buffer.alloc(4 * (inputIds.length + labels.length));
  for (const [i, id] of [...inputIds, ...labels].entries()) bytes.writeInt32LE(id, 4 * i);
  return createHash('sha256').update(bytes).digest('hex');
}

/** The rows of all batches of a loader. */
async function rowsOf(loader: DataLoader): Promise<string[]> {
  const rows: string[] = [];
  for await (const { inputIds, labels } of loader) {
    const [B, T] = inputIds.shape;
    for (let row = 0; row < B; row++) {
      const part = (data: Int32Array) => data.subarray(row * T, (row + 1) * T);
      rows.push(digest(part(inputIds.data), part(labels.data)));
    }
  }
  return rows;
}

for (const numWorkers of [0, 1, 2]) {
  t.test(`the tutorial's pipeline gives what Python's gives, ${numWorkers} workers`, async (t) => {
    const blocks = BlockDataset.fromFile(TEXT, { tokenizer, blockSize: 1024 });
    const shuffled = new BufferedShuffleDataset(blocks, { bufferSize: 3, random: () => new PythonRandom(1234) });
    const loader = new DataLoader(shuffled, { batchSize: 3, prefetchFactor: 10, numWorkers });
    const shapes: number[][] = [];
    for await (const { inputIds, labels } of loader) shapes.push(inputIds.shape, labels.shape);
    t.same(shapes[0], [3, 1024]);
    t.same(shapes[1], [3, 1024]);
    const again = new BufferedShuffleDataset(blocks, { bufferSize: 3, random: () => new PythonRandom(1234) });
    const rows = await rowsOf(new DataLoader(again, { batchSize: 3, prefetchFactor: 10, numWorkers }));
    t.same(
      rows,
      EXPECTED.order.map((index) => EXPECTED.blocks[index]),
    );
  });
}

t.test('the same blocks and the same leftover without shuffling, and from a token file', async (t) => {
  const padded = BlockDataset.fromFile(TEXT, { tokenizer, blockSize: 1024, dropLast: false });
  const blocks: string[] = [];
  let leftover: number[] = [];
  for await (const { inputIds, labels } of padded) {
    const end = labels.indexOf(-100);
    if (end < 0) blocks.push(digest(inputIds, labels));
    else leftover = [...inputIds.subarray(0, end + 1)];
  }
  t.same(blocks, EXPECTED.blocks);
  t.same(leftover, EXPECTED.leftover);

  const output = join(folder, 'text.bin');
  await writeTokenFiles(padded.tokens({ numWorkers: 1 }), { output, tokenizer, sources: [TEXT] });
  const tokens = await TokenDataset.open(output, { blockSize: 1024, shuffle: false, tokenizer });
  t.equal(tokens.tokens, 1024 * EXPECTED.blocks.length + EXPECTED.leftover.length);
  t.same(await rowsOf(new DataLoader(tokens, { batchSize: 3 })), EXPECTED.blocks);
});
