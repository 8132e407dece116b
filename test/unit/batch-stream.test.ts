import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { BlockDataset, BufferedShuffleDataset, DataLoader } from '../../dist/data/index.js';
import type { Batch, Json } from '../../dist/data/types.js';
import { type BatchSource, BatchStream, countBatches } from '../../dist/train/batch-stream.js';
import { NUMBERS, numbers, plain } from './helpers/blocks.js';

/** Twelve blocks, shuffled, in batches of two: six an epoch. */
function loader(): DataLoader {
  const dataset = BlockDataset.fromTexts([numbers(0, 25)], { tokenizer: NUMBERS, blockSize: 2 });
  return new DataLoader(new BufferedShuffleDataset(dataset, { bufferSize: 5, seed: 3 }), { batchSize: 2 });
}

/** One batch after the other, each once `gate` lets it. */
function gated(gate: (number: number) => Promise<void>): BatchSource & { passes: number } {
  return {
    batchSize: 1,
    blockSize: 1,
    passes: 0,
    state: () => null,
    restore() {},
    async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
      this.passes++;
      for (let number = 0; number < 3; number++) {
        await gate(number);
        const ids = { data: Int32Array.of(number), shape: [1, 1] as [number, number] };
        yield { inputIds: ids, labels: ids };
      }
    },
  };
}

t.test('looking ahead changes neither batches nor positions, over the ends of epochs', async (t) => {
  let looked = 0;
  const read = async (looks: boolean) => {
    const stream = new BatchStream(loader(), 2);
    let ahead: Batch | undefined;
    const seen: { batch: unknown; last: unknown; position: string }[] = [];
    for (;;) {
      const batch = await stream.next();
      if (batch === undefined) break;
      if (ahead !== undefined) t.equal(batch, ahead, 'what was seen ahead comes');
      ahead = looks ? await stream.peek() : undefined;
      if (ahead !== undefined) looked++;
      seen.push({ batch: plain(batch), last: { ...stream.last }, position: JSON.stringify(stream.position()) });
    }
    await stream.close();
    return seen;
  };
  const [expected, found] = [await read(false), await read(true)];
  t.equal(expected.length, 12);
  t.same(found, expected);
  t.ok(looked > 0, `${looked} batches were seen ahead`);
  for (const [index, { position }] of found.entries()) {
    const resumed = new BatchStream(loader(), 2);
    resumed.restore(JSON.parse(position));
    const next = await resumed.next();
    t.same(next && plain(next), expected[index + 1]?.batch, `continued after batch ${index}`);
    await resumed.close();
  }
});

t.test('what is not there yet is not waited for, and comes with the next call', async (t) => {
  let open = () => {};
  const stream = new BatchStream(
    gated((number) => (number === 1 ? new Promise((resolve) => (open = resolve)) : Promise.resolve())),
    1,
  );
  t.same((await stream.next())?.inputIds.data, [0]);
  t.equal(await stream.peek(), undefined);
  open();
  t.same((await stream.next())?.inputIds.data, [1]);
  t.same((await stream.peek())?.inputIds.data, [2]);
  t.same((await stream.next())?.inputIds.data, [2]);
  t.equal(await stream.peek(), undefined);
  t.equal(await stream.next(), undefined);
});

t.test('a failure ahead is that of the call that takes the batch', async (t) => {
  const failing = gated(async (number) => {
    if (number === 1) throw new Error('torn page');
  });
  const stream = new BatchStream(failing, 1);
  await stream.next();
  t.equal(await stream.peek(), undefined);
  await t.rejects(stream.next(), { message: 'torn page' });
  await stream.close();
});

t.test('a source that waits for ever does not keep the stream from closing, nor begins another pass', async (t) => {
  let open = () => {};
  const waiting = gated((number) => (number === 1 ? new Promise((resolve) => (open = resolve)) : Promise.resolve()));
  const stream = new BatchStream(waiting, 5);
  await stream.next();
  await stream.peek();
  await stream.close();
  open();
  await sleep(1);
  t.equal(waiting.passes, 1);
});

t.test('a state is made only where somebody asks for the position', async (t) => {
  let made = 0;
  const source = loader();
  const stream = new BatchStream(
    {
      ...{ batchSize: 2, blockSize: 2, state: () => source.state(), restore: (state: Json) => source.restore(state) },
      snapshot: () => {
        const snapshot = source.snapshot();
        return () => {
          made++;
          return snapshot();
        };
      },
      [Symbol.asyncIterator]: () => source[Symbol.asyncIterator](),
    },
    1,
  );
  for (let batch = 0; batch < 4; batch++) {
    await stream.next();
    await stream.peek();
  }
  t.equal(made, 0);
  stream.position();
  t.equal(made, 1);
  await stream.close();
});

t.test(
  'what does not come is not waited for once the signal aborts, and the source is not waited for at the end',
  async (t) => {
    const controller = new AbortController();
    const silent = gated((number) => (number === 1 ? new Promise(() => {}) : Promise.resolve()));
    const stream = new BatchStream(silent, 1, controller.signal);
    await stream.next();
    const mark = stream.mark();
    const next = stream.next();
    controller.abort();
    t.equal(await next, undefined);
    t.equal(stream.gaveUp, true);
    stream.rewind(mark);
    t.same(stream.position(), { epoch: 1, blocks: 1, source: null });
    await stream.close();
    t.same(stream.last, { epoch: 1, blocks: 1 });
  },
);

t.test('an epoch is counted from where the source stands, and not once the signal aborts', async (t) => {
  const source = loader();
  const before = JSON.stringify(source.state());
  const counts: number[] = [];
  t.equal(await countBatches(source, undefined, (count) => counts.push(count)), 6);
  t.same(counts, [1, 2, 3, 4, 5, 6]);
  const controller = new AbortController();
  t.equal(await countBatches(source, controller.signal, () => controller.abort()), null);
  t.equal(JSON.stringify(source.state()), before);
  t.equal(await countBatches(source, AbortSignal.abort()), null);
});

t.test('a position stays what it was, though the source goes on with the object that it handed out', async (t) => {
  const place = { next: 0 };
  const stream = new BatchStream(
    {
      batchSize: 1,
      blockSize: 1,
      state: () => place,
      restore() {},
      async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
        while (place.next < 3) {
          const ids = { data: Int32Array.of(place.next++), shape: [1, 1] as [number, number] };
          yield { inputIds: ids, labels: ids };
        }
      },
    },
    1,
    undefined,
  );
  await stream.next();
  await stream.peek();
  t.same(stream.position().source, { next: 1 });
  await stream.close();
});
