import fc from 'fast-check';
import t from 'tap';
import {
  BlockDataset,
  type BlockSource,
  BufferedShuffleDataset,
  DataLoader,
  type DataLoaderOptions,
  TokenDataset,
  writeTokenFiles,
} from '../../dist/data/index.js';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import { collect, countingSource, folderOf, TOKENIZER_FOLDER, temporaryFile } from './helpers/blocks.js';

const tokenizer = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
const LINES = Array.from({ length: 60 }, (_, i) => `Article ${i}. すべての人間は、${'自由 and equal, '.repeat(i % 7)}`);
const TEXT = temporaryFile(LINES.join('\n'));
const BLOCK_SIZE = 8;

const TOKENS = `${folderOf(TEXT)}/a.bin`;
async function* ids() {
  for (const line of LINES) yield Int32Array.from(tokenizer.encode(line));
}
await writeTokenFiles(ids(), { output: TOKENS, tokenizer, sources: [TEXT] });

const SOURCES: { [name: string]: () => Promise<BlockSource> } = {
  text: async () => {
    const dataset = BlockDataset.fromFile(TEXT, { tokenizer, blockSize: BLOCK_SIZE });
    return new BufferedShuffleDataset(dataset, { bufferSize: 10, seed: 1 });
  },
  tokens: () => TokenDataset.open(TOKENS, { blockSize: BLOCK_SIZE, seed: 1, tokenizer }),
};

interface Rows {
  inputIds: number[];
  labels: number[];
}

/** The rows of a batch. */
function rowsOf({ inputIds, labels }: Rows): string[] {
  return Array.from({ length: inputIds.length / BLOCK_SIZE }, (_, row) => {
    const [from, to] = [row * BLOCK_SIZE, (row + 1) * BLOCK_SIZE];
    return JSON.stringify([inputIds.slice(from, to), labels.slice(from, to)]);
  });
}

async function batchesOf(source: BlockSource, options: DataLoaderOptions): Promise<string[][]> {
  return (await collect(new DataLoader(source, options))).map(rowsOf);
}

for (const [name, make] of Object.entries(SOURCES)) {
  t.test(`${name}: ranks share each global batch; workers, prefetching and the split change nothing`, async (t) => {
    const blocks = (await batchesOf(await make(), { batchSize: 1 })).flat();
    t.ok(blocks.length > 100);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom(0, 0, 0, 1, 2),
        fc.integer({ min: 1, max: 4 }),
        fc.boolean(),
        async (batchSize, worldSize, numWorkers, prefetchFactor, dropLast) => {
          const ranks: string[][][] = [];
          for (let rank = 0; rank < worldSize; rank++) {
            const options = { batchSize, worldSize, rank, numWorkers, prefetchFactor, dropLast };
            ranks.push(await batchesOf(await make(), options));
          }
          const count = batchSize * worldSize;
          const whole = Math.floor(blocks.length / count);
          const rest = blocks.length - whole * count;
          const batches = whole + (rest >= worldSize && !dropLast ? 1 : 0);
          t.same(
            ranks.map((rank) => rank.length),
            new Array(worldSize).fill(batches),
          );
          for (let index = 0; index < batches; index++) {
            const shares = ranks.map((rank) => rank[index]);
            t.same(shares.flat(), blocks.slice(index * count, (index + 1) * count), `global batch ${index}`);
            const sizes = shares.map((share) => share.length);
            if (index < whole) t.same(sizes, new Array(worldSize).fill(batchSize));
            else t.ok(Math.max(...sizes) - Math.min(...sizes) <= 1 && Math.min(...sizes) > 0, `shares of ${sizes}`);
          }
        },
      ),
      { numRuns: 12 },
    );
  });

  t.test(`${name}: 6 x 1, 3 x 2 and 2 x 3, on one rank or more, are the same steps`, async (t) => {
    const steps = async (batchSize: number, gradAccum: number, worldSize: number) => {
      const ranks: string[][][] = [];
      for (let rank = 0; rank < worldSize; rank++) {
        ranks.push(await batchesOf(await make(), { batchSize, worldSize, rank, dropLast: true }));
      }
      const count = Math.floor(ranks[0].length / gradAccum);
      return Array.from({ length: count }, (_, step) => {
        const micro = Array.from({ length: gradAccum }, (_, index) => step * gradAccum + index);
        return micro.flatMap((index) => ranks.flatMap((rank) => rank[index])).sort();
      });
    };
    const expected = await steps(6, 1, 1);
    for (const [batchSize, gradAccum, worldSize] of [
      [3, 2, 1],
      [2, 3, 1],
      [1, 6, 1],
      [3, 1, 2],
      [1, 3, 2],
      [2, 1, 3],
      [1, 2, 3],
      [1, 1, 6],
    ]) {
      t.same(await steps(batchSize, gradAccum, worldSize), expected, `${batchSize} x ${gradAccum}, ${worldSize} ranks`);
    }
  });

  t.test(`${name}: ranks have the same state, which another number of ranks can continue`, async (t) => {
    const blocks = (await batchesOf(await make(), { batchSize: 1 })).flat();
    const states: string[] = [];
    for (const rank of [0, 1, 2]) {
      const loader = new DataLoader(await make(), { batchSize: 2, worldSize: 3, rank, numWorkers: 1 });
      const pass = loader[Symbol.asyncIterator]();
      for (let i = 0; i < 4; i++) await pass.next();
      states.push(JSON.stringify(loader.state()));
      await pass.return();
    }
    t.equal(new Set(states).size, 1);
    const loader = new DataLoader(await make(), { batchSize: 5 });
    loader.restore(JSON.parse(states[0]));
    t.same((await collect(loader)).flatMap(rowsOf), blocks.slice(24));
  });
}

t.test('fewer blocks than ranks at the end are dropped; ranks that do not exist are refused', async (t) => {
  const take = (count: number, rank: number) =>
    collect(new DataLoader(countingSource(count), { batchSize: 1, worldSize: 3, rank }));
  for (const rank of [0, 1, 2]) {
    t.equal((await take(5, rank)).length, 1);
    t.equal((await take(6, rank)).length, 2);
    t.equal((await take(2, rank)).length, 0);
  }
  for (const options of [{ rank: 1 }, { worldSize: 2, rank: 2 }, { worldSize: 2, rank: -1 }, { worldSize: 0 }]) {
    t.throws(() => new DataLoader(countingSource(3), { batchSize: 1, ...options }), { code: 'ERR_OPTIONS' });
  }
});

t.test('of token files each rank reads its own rows alone', async (t) => {
  // The ids of block k are all k, but for the first one, which closes the block before; block 21 is not in the vocabulary.
  const blocks = 23;
  const output = `${folderOf(temporaryFile(''))}/b.bin`;
  async function* numbered() {
    yield Int32Array.from({ length: blocks * 4 + 1 }, (_, i) =>
      Math.min(blocks - 1, Math.floor(Math.max(0, i - 1) / 4)),
    );
  }
  await writeTokenFiles(numbered(), { output, tokenizer: { fingerprint: 'x', vocabSize: blocks }, sources: [] });
  const openAs = (vocabSize: number, shuffle: boolean) =>
    TokenDataset.open(output, { blockSize: 4, shuffle, seed: 3, tokenizer: { fingerprint: 'x', vocabSize } });
  for (const shuffle of [false, true]) {
    const order = (await collect(await openAs(blocks, shuffle))).map(({ labels }) => labels[0]);
    // With this vocabulary every read of a block from `bad` on fails.
    const bad = 9;
    for (const rank of [0, 1, 2]) {
      const mine = order.filter((_, index) => index >= 18 || Math.floor((index % 6) / 2) === rank);
      const source = await openAs(bad, shuffle);
      const seen: number[] = [];
      const loader = new DataLoader(source, { batchSize: 2, worldSize: 3, rank });
      await t.rejects(
        async () => {
          for await (const { labels } of loader) seen.push(labels.data[0], labels.data[4]);
        },
        { code: 'ERR_DATA' },
      );
      const firstBad = mine.findIndex((block) => block >= bad);
      t.same(seen, mine.slice(0, firstBad - (firstBad % 2)), `rank ${rank}, ${shuffle ? 'shuffled' : 'in order'}`);
    }
  }
});

t.test('token files know how many batches an epoch has', async (t) => {
  for (const [batchSize, worldSize, dropLast] of [
    [1, 1, false],
    [3, 1, false],
    [3, 1, true],
    [2, 3, false],
    [4, 5, true],
    [1000, 1, false],
    [1000, 1, true],
    [1, 1000, false],
  ] as const) {
    const loader = new DataLoader(await SOURCES.tokens(), { batchSize, worldSize, dropLast });
    t.equal(loader.batchesPerEpoch, (await collect(loader)).length, `${batchSize} x ${worldSize}, ${dropLast}`);
  }
  t.equal(new DataLoader(await SOURCES.text(), { batchSize: 1 }).batchesPerEpoch, undefined);
});
