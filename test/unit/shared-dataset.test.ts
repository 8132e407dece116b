import { join } from 'node:path';
import t from 'tap';
import {
  BlockDataset,
  type BlockSource,
  BufferedShuffleDataset,
  DataLoader,
  type Json,
  TokenDataset,
  writeTokenFiles,
} from '../../dist/data/index.js';
import { collect, NUMBERS, numbers, plain } from './helpers/blocks.js';
import { temporaryFolder } from './helpers/temporary-folder.js';

const TEXTS = [numbers(0, 40), numbers(40, 90)];
const FILE = join(temporaryFolder(), 'ids.bin');
const texts = () => BlockDataset.fromTexts(TEXTS, { tokenizer: NUMBERS, blockSize: 3 });
const tokenizer = { fingerprint: 'numbers', vocabSize: 1000 };
await writeTokenFiles(texts().tokens(), { output: FILE, tokenizer, sources: [] });

/** The dataset that is read twice, and what trains on it. */
interface Pipeline {
  shared: BlockSource;
  train: DataLoader;
}

const loader = (shared: BlockSource, dataset = shared): Pipeline => ({
  shared,
  train: new DataLoader(dataset, { batchSize: 2, prefetchFactor: 2 }),
});
const shuffled = (shared: BlockSource) =>
  loader(shared, new BufferedShuffleDataset(shared, { bufferSize: 5, seed: 2 }));
const ids = (shuffle: boolean) => TokenDataset.open(FILE, { blockSize: 3, shuffle, seed: 1 });

const PIPELINES: Record<string, () => Promise<Pipeline>> = {
  texts: async () => loader(texts()),
  'shuffled texts': async () => shuffled(texts()),
  'a token file': async () => loader(await ids(false)),
  'a shuffled token file': async () => loader(await ids(true)),
  'a token file in a shuffle buffer': async () => shuffled(await ids(false)),
};

/** What an evaluation does after each batch: reads everything, or leaves early. */
const EVALUATIONS = { whole: Number.POSITIVE_INFINITY, 'left early': 2 };

for (const [name, make] of Object.entries(PIPELINES)) {
  for (const [how, most] of Object.entries(EVALUATIONS)) {
    t.test(`${name}: evaluations (${how}) of the same dataset leave the place of the training alone`, async (t) => {
      const { shared, train } = await make();
      const valid = new DataLoader(shared, { batchSize: 4 });
      const states: Json[] = [train.state()];
      const read = [];
      for await (const batch of train) {
        read.push(plain(batch));
        let left = most;
        for await (const _ of valid) if (--left === 0) break;
        states.push(train.state());
      }
      t.same(read, await collect((await make()).train), 'nor do they change what comes');
      for (const [stop, state] of states.entries()) {
        const resumed = (await make()).train;
        resumed.restore(JSON.parse(JSON.stringify(state)));
        t.same(await collect(resumed), read.slice(stop), `after ${stop} batches`);
      }
    });
  }
}

t.test('after the end of an epoch a state names the next one, whoever reads the dataset then', async (t) => {
  const { shared, train } = await (PIPELINES['shuffled texts'] as () => Promise<Pipeline>)();
  await collect(train);
  for await (const _ of shared) break;
  const state = train.state();
  const second = await collect(train);
  const resumed = shuffled(texts()).train;
  resumed.restore(JSON.parse(JSON.stringify(state)));
  t.same(await collect(resumed), second);
});

t.test('a loader that has read nothing is at the beginning, wherever others stand', async (t) => {
  for (const { shared, train } of [loader(texts()), loader(await ids(false)), shuffled(texts())]) {
    for await (const _ of new DataLoader(shared, { batchSize: 3 })) break;
    const state = train.state();
    const all = await collect(train);
    train.restore(state);
    t.same(await collect(train), all);
  }
});

t.test('a restored loader goes on from its place, whoever reads the dataset before it does', async (t) => {
  for (const [name, make] of Object.entries(PIPELINES)) {
    const whole = await collect((await make()).train);
    const left = (await make()).train;
    let taken = 0;
    for await (const _ of left) if (++taken === 3) break;
    const { shared, train } = await make();
    const other = new DataLoader(shared, { batchSize: 2 });
    const first = await collect(new DataLoader((await make()).shared, { batchSize: 2 }));
    train.restore(left.state());
    t.same(await collect(other), first, `${name}: the other loader begins where it would have`);
    t.same(train.state(), left.state());
    t.same(await collect(train), whole.slice(3), name);
  }
});

t.test('a source of another kind may go on with the object that it handed out as its state', async (t) => {
  const source = (): BlockSource => {
    const place = { next: 0 };
    return {
      blockSize: 1,
      state: () => place,
      restore: (state) => Object.assign(place, state),
      async *[Symbol.asyncIterator]() {
        for (; place.next < 20; ) yield { inputIds: Int32Array.of(place.next), labels: Int32Array.of(++place.next) };
      },
    };
  };
  for (const wrap of [(made: BlockSource) => made, (made: BlockSource) => new BufferedShuffleDataset(made)]) {
    const make = () => new DataLoader(wrap(source()), { batchSize: 2, numWorkers: 1, prefetchFactor: 3 });
    const whole = await collect(make());
    const left = make();
    let taken = 0;
    for await (const _ of left) if (++taken === 3) break;
    const resumed = make();
    resumed.restore(left.state());
    t.same(await collect(resumed), whole.slice(3));
  }
});
