import fc from 'fast-check';
import t from 'tap';
import { BlockDataset, type BlockSource, BufferedShuffleDataset, IGNORED_LABEL } from '../../dist/data/index.js';
import { collect, countingSource, NUMBERS, numbers, resumeProblem } from './helpers/blocks.js';
import { PythonRandom } from './helpers/python-random.js';

async function order(source: AsyncIterable<{ inputIds: Int32Array }>): Promise<number[]> {
  const result = [];
  for await (const { inputIds } of source) result.push(inputIds[0]);
  return result;
}

t.test("torch 1.8's order, with CPython's random numbers: seed 1234, buffer 3, range(10)", async (t) => {
  const random = () => new PythonRandom(1234);
  const shuffled = new BufferedShuffleDataset(countingSource(10), { bufferSize: 3, random });
  t.same(await order(shuffled), [1, 0, 4, 5, 2, 6, 7, 9, 8, 3]);
  t.equal(
    await resumeProblem(() => new BufferedShuffleDataset(countingSource(10), { bufferSize: 3, random })),
    undefined,
  );
});

t.test(
  'a permutation in which nothing comes out more than a buffer early; new each epoch; the same for a seed',
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(60),
        fc.integer({ min: 1, max: 70 }),
        fc.maxSafeNat(),
        async (count, bufferSize, seed) => {
          const make = () => new BufferedShuffleDataset(countingSource(count), { bufferSize, seed });
          const shuffled = make();
          const [first, second] = [await order(shuffled), await order(shuffled)];
          const again = make();
          const sorted = [...first].sort((a, b) => a - b);
          return (
            sorted.length === count &&
            sorted.every((value, index) => value === index) &&
            first.every((value, place) => value - place < bufferSize) &&
            (bufferSize > 1 || first.every((value, place) => value === place)) &&
            first.join() === (await order(again)).join() &&
            second.join() === (await order(again)).join() &&
            (Math.min(count, bufferSize) < 20 || first.join() !== second.join())
          );
        },
      ),
      { numRuns: 80 },
    );
  },
);

t.test("the order of a seed's first epochs is the same in every release; another seed has another one", async (t) => {
  const shuffled = (seed: number) => new BufferedShuffleDataset(countingSource(10), { bufferSize: 3, seed });
  const five = shuffled(5);
  const found = [await order(five), await order(five)];
  t.strictSame(found, [
    [0, 3, 2, 1, 6, 4, 5, 7, 9, 8],
    [0, 2, 1, 5, 3, 4, 7, 8, 6, 9],
  ]);
  t.notSame(await order(shuffled(6)), found[0]);
});

t.test('stopped anywhere, while filling, mixing or draining, it continues exactly', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 5, max: 40 }),
      fc.integer({ min: 1, max: 12 }),
      fc.nat(),
      async (n, bufferSize, seed) => {
        const make = () => {
          const dataset = BlockDataset.fromTexts([numbers(0, n), numbers(n, n + 3)], {
            tokenizer: NUMBERS,
            blockSize: 3,
            dropLast: false,
          });
          return new BufferedShuffleDataset(dataset, { bufferSize, seed });
        };
        const problem = await resumeProblem(make);
        if (problem !== undefined) t.comment(problem);
        return problem === undefined;
      },
    ),
    { numRuns: 25 },
  );
});

t.test('padded blocks and blocks of one id survive a saved buffer', async (t) => {
  for (const blockSize of [1, 2, 5]) {
    const options = { tokenizer: NUMBERS, blockSize, dropLast: false };
    const make = () =>
      new BufferedShuffleDataset(BlockDataset.fromTexts(['1 2 3 4 5 6 7 8'], options), { bufferSize: 100 });
    t.equal(await resumeProblem(make), undefined, `block size ${blockSize}`);
  }
});

t.test('blocks out of a saved buffer may be changed: inputs and labels share no memory', async (t) => {
  const make = () => {
    const dataset = BlockDataset.fromTexts([numbers(0, 16)], { tokenizer: NUMBERS, blockSize: 3, dropLast: false });
    return new BufferedShuffleDataset(dataset, { bufferSize: 4, seed: 1 });
  };
  const source = make();
  const pass = source[Symbol.asyncIterator]();
  await pass.next();
  const resumed = make();
  resumed.restore(JSON.parse(JSON.stringify(source.state())));
  for await (const { inputIds, labels } of resumed) {
    const before = [...inputIds];
    labels.fill(IGNORED_LABEL);
    t.same([...inputIds], before);
  }
});

t.test(
  'a pass that is left: the next one is the next epoch, and its state is right before the first block',
  async (t) => {
    const texts = [numbers(0, 50)];
    const make = () =>
      new BufferedShuffleDataset(BlockDataset.fromTexts(texts, { tokenizer: NUMBERS, blockSize: 2 }), {
        bufferSize: 5,
      });
    const whole = make();
    await collect(whole);
    const second = await collect(whole);
    const left = make();
    for await (const _ of left) break;
    const pass = left[Symbol.asyncIterator]();
    const state = left.state();
    await pass.next();
    const resumed = make();
    resumed.restore(state);
    t.same(await collect(resumed), second);
  },
);

t.test('reading again from an older state, as one who counts the batches does', async (t) => {
  const make = () => new BufferedShuffleDataset(countingSource(30), { bufferSize: 7, seed: 3 });
  const shuffled = make();
  const start = shuffled.state();
  const first = await order(shuffled);
  shuffled.restore(start);
  t.same(await order(shuffled), first);
});

t.test(
  'a buffer that no checkpoint could hold is refused before the first block, and only when it gets there',
  async (t) => {
    const blockSize = 2 ** 22;
    // One block again and again, for its memory's sake. 23 of them are 515 million characters of base64.
    const ids = new Int32Array(blockSize);
    const source = (count: number): BlockSource => ({
      ...countingSource(0, blockSize),
      async *[Symbol.asyncIterator]() {
        for (let i = 0; i < count; i++) yield { inputIds: ids, labels: ids };
      },
    });
    const first = (count: number, bufferSize: number) =>
      new BufferedShuffleDataset(source(count), { bufferSize })[Symbol.asyncIterator]().next();
    await t.rejects(first(24, 1000), {
      code: 'ERR_OPTIONS',
      message: /at most 23 blocks of 4194304 ids, received 1000\n.*kotodama tokenize/,
    });
    t.ok(await first(24, 23));
    t.ok(await first(23, 1000), 'a short text fits');
  },
);

t.test('options and states that cannot be used', async (t) => {
  const source = countingSource(3);
  const wrong = [{ bufferSize: 0 }, { bufferSize: Number.NaN }, { seed: -1 }, { seed: 0.5 }, { buffer: 3 }];
  for (const options of [...wrong, { random: 5 }, null]) {
    t.throws(() => new BufferedShuffleDataset(source, options as never), { code: 'ERR_OPTIONS' });
  }
  for (const dataset of [undefined, null, [1, 2], 'train.txt']) {
    t.throws(() => new BufferedShuffleDataset(dataset as never), {
      code: 'ERR_OPTIONS',
      message: /dataset: expected a BlockDataset/,
    });
  }
  const shuffled = new BufferedShuffleDataset(source, { bufferSize: 2 });
  const good = shuffled.state() as { [key: string]: never };
  shuffled.restore(good);
  const bad = [
    null,
    { ...good, kind: 'files' },
    { ...good, epoch: -1 },
    { ...good, draining: 0 },
    { ...good, random: 'x' },
    { ...good, buffer: 'x' },
    { ...good, buffer: ['AAAA'] },
    { ...good, buffer: ['', '', ''] },
    { ...good, buffer: [3] },
  ];
  for (const state of bad) t.throws(() => shuffled.restore(state), { code: 'ERR_CHECKPOINT' }, JSON.stringify(state));
});
