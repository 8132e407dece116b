import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import t from 'tap';
import {
  type Batch,
  BlockDataset,
  BufferedShuffleDataset,
  DataLoader,
  type DataLoaderOptions,
  type Json,
  stackBlocks,
} from '../../dist/data/index.js';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import { trainTokenizer } from '../../dist/tokenizer/training/index.js';
import {
  collect,
  countingSource,
  NUMBERS,
  numbers,
  resumeProblem,
  TOKENIZER_FOLDER,
  temporaryFile,
} from './helpers/blocks.js';
import { serve } from './helpers/serve.js';
import { temporaryFolder } from './helpers/temporary-folder.js';

const tokenizer = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
const TEXT = Array.from({ length: 400 }, (_, i) => `Article ${i}. すべての人間は、${'自由 and equal, '.repeat(i % 7)}`);
const PATH = temporaryFile(TEXT.join('\n'));
/** The same, begun in files of their own: workers are for what comes after the first chunks. */
const PATHS = inThree(TEXT);

function inThree(lines: readonly string[]): string[] {
  return [lines.slice(0, 1), lines.slice(1, 2), lines.slice(2)].map((part) =>
    temporaryFile(part.map((line) => `${line}\n`).join('')),
  );
}

/** Workers that were started in this process and have not ended. */
const alive = new Set<Worker>();
let started = 0;
process.on('worker', (worker: Worker) => {
  started++;
  alive.add(worker);
  worker.on('exit', () => alive.delete(worker));
});

function shuffledText(blockSize = 32): BufferedShuffleDataset {
  const dataset = BlockDataset.fromFile(PATHS, { tokenizer, blockSize });
  return new BufferedShuffleDataset(dataset, { bufferSize: 20, seed: 1 });
}

t.test("the tutorial's loop: batches of [3, 1024]", async (t) => {
  const train = BlockDataset.fromFile(PATH, { tokenizer, blockSize: 1024 });
  const shuffled = new BufferedShuffleDataset(train, { bufferSize: 100, seed: 1 });
  const loader = new DataLoader(shuffled, { batchSize: 3, prefetchFactor: 10, numWorkers: 1 });
  let batches = 0;
  for await (const { inputIds, labels } of loader) {
    if (batches++ > 0) continue;
    t.same(inputIds.shape, [3, 1024]);
    t.same(labels.shape, [3, 1024]);
    t.type(inputIds.data, Int32Array);
    for (let i = 0; i < 3 * 1024 - 1; i++) {
      if (i % 1024 !== 1023 && labels.data[i] !== inputIds.data[i + 1]) t.fail(`label ${i} is not the next id`);
    }
  }
  t.ok(batches > 1);
});

t.test('batches are the same whatever the workers and the prefetching; no worker stays', async (t) => {
  const expected = await collect(new DataLoader(shuffledText(), { batchSize: 3 }));
  const before = started;
  for (const [numWorkers, prefetchFactor] of [
    [1, 1],
    [1, 10],
    [3, 2],
  ]) {
    const loader = new DataLoader(shuffledText(), { batchSize: 3, numWorkers, prefetchFactor });
    t.same(await collect(loader), expected, `${numWorkers} workers, ${prefetchFactor} batches each`);
  }
  t.equal(started - before, 5, 'the workers were there');
  t.equal(alive.size, 0);
});

t.test('batching: sizes, the last batch, two epochs', async (t) => {
  const sizes = async (count: number, options: DataLoaderOptions) => {
    const result = [];
    for await (const { inputIds } of new DataLoader(countingSource(count), options)) result.push(inputIds.shape[0]);
    return result;
  };
  t.same(await sizes(7, { batchSize: 3 }), [3, 3, 1]);
  t.same(await sizes(7, { batchSize: 3, dropLast: true }), [3, 3]);
  t.same(await sizes(6, { batchSize: 3, numWorkers: 2 }), [3, 3]);
  t.same(await sizes(2, { batchSize: 3, dropLast: true }), []);
  t.same(await sizes(0, { batchSize: 3 }), []);

  const loader = new DataLoader(new BufferedShuffleDataset(countingSource(50), { bufferSize: 30 }), { batchSize: 4 });
  const [first, second] = [await collect(loader), await collect(loader)];
  t.notSame(first, second, 'each epoch has its own order');
});

t.test('the state names the next batch, however many are prefetched; a new loader continues exactly', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 5, max: 40 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 9 }),
      fc.boolean(),
      fc.integer({ min: 0, max: 3 }),
      async (count, batchSize, bufferSize, dropLast, numWorkers) => {
        const problem = await resumeProblem(() => {
          const texts = [numbers(0, count), '', numbers(count, count + 9)];
          const dataset = BlockDataset.fromTexts(texts, { tokenizer: NUMBERS, blockSize: 3, dropLast });
          const shuffled = new BufferedShuffleDataset(dataset, { bufferSize });
          return new DataLoader(shuffled, { batchSize, numWorkers, prefetchFactor: 3, dropLast });
        });
        if (problem !== undefined) t.comment(problem);
        return problem === undefined;
      },
    ),
    { numRuns: 30 },
  );
});

t.test('a state that was saved with workers continues without them, and the other way round', async (t) => {
  const make = (numWorkers: number) => new DataLoader(shuffledText(), { batchSize: 3, numWorkers });
  const expected = await collect(make(0));
  for (const [from, to] of [
    [2, 0],
    [0, 1],
  ]) {
    const source = make(from);
    const pass = source[Symbol.asyncIterator]();
    for (let i = 0; i < 5; i++) await pass.next();
    const state = JSON.parse(JSON.stringify(source.state()));
    await pass.return();
    const resumed = make(to);
    resumed.restore(state);
    t.same(await collect(resumed), expected.slice(5));
  }
  const restored = make(1);
  t.equal(await resumeProblem(() => restored, [0, expected.length]), undefined, 'the first and the last state');
});

t.test('break ends the workers, and the next pass is a whole one', async (t) => {
  const loader = new DataLoader(BlockDataset.fromFile(PATHS, { tokenizer, blockSize: 32 }), {
    batchSize: 2,
    numWorkers: 2,
    prefetchFactor: 3,
  });
  const before = started;
  for await (const _ of loader) if (started > before) break;
  t.equal(started - before, 2);
  t.equal(alive.size, 0);
  const whole = await collect(loader);
  t.same(
    whole,
    await collect(new DataLoader(BlockDataset.fromFile(PATHS, { tokenizer, blockSize: 32 }), { batchSize: 2 })),
  );
});

t.test('an AbortSignal ends the pass and the workers, also while nothing comes', async (t) => {
  const controller = new AbortController();
  const loader = new DataLoader(shuffledText(), { batchSize: 2, numWorkers: 2, signal: controller.signal });
  let batches = 0;
  await t.rejects(
    async () => {
      for await (const _ of loader) if (++batches === 3) controller.abort();
    },
    { code: 'ERR_ABORTED' },
  );
  t.equal(batches, 3);
  t.equal(alive.size, 0);
  await t.rejects(collect(loader), { code: 'ERR_ABORTED' }, 'a signal that has aborted already');

  const second = new AbortController();
  async function* silent() {
    yield numbers(0, 10);
    await new Promise(() => {});
  }
  const dataset = BlockDataset.fromTexts(silent, { tokenizer: NUMBERS, blockSize: 2 });
  const waiting = collect(new DataLoader(dataset, { batchSize: 2, numWorkers: 1, signal: second.signal }));
  setTimeout(() => second.abort(), 20);
  await t.rejects(waiting, { code: 'ERR_ABORTED' });
});

t.test('when reading fails, the batches before come first, and the workers end', async (t) => {
  const broken = temporaryFile(Buffer.concat([Buffer.from(`${TEXT.join('\n')}\n`), Buffer.from([0xff, 0x0a])]));
  const expected = await collect(
    new DataLoader(BlockDataset.fromFile(PATH, { tokenizer, blockSize: 32 }), { batchSize: 3 }),
  );
  for (const numWorkers of [0, 2]) {
    const dataset = BlockDataset.fromFile(broken, { tokenizer, blockSize: 32 });
    const loader = new DataLoader(dataset, { batchSize: 3, numWorkers, prefetchFactor: 5 });
    const seen: Batch[] = [];
    await t.rejects(
      async () => {
        for await (const batch of loader) seen.push(batch);
      },
      { code: 'ERR_DATA', message: /not UTF-8 at byte/ },
    );
    t.ok(seen.length >= expected.length - 1, `${seen.length} batches came first`);
    t.same(Array.from(seen.at(-1)?.inputIds.data ?? []), expected[seen.length - 1].inputIds);
    t.equal(alive.size, 0);
  }
});

t.test('a short text is read without threads, however often', async (t) => {
  const before = started;
  const loader = new DataLoader(BlockDataset.fromFile(PATH, { tokenizer, blockSize: 32 }), {
    batchSize: 2,
    numWorkers: 4,
  });
  const first = await collect(loader);
  t.same(await collect(loader), first);
  t.equal(started, before);
});

t.test('a worker that dies, and one that cannot load the tokenizer', async (t) => {
  const kill = (worker: Worker) => void worker.terminate();
  process.on('worker', kill);
  const options = { batchSize: 2, numWorkers: 2 };
  await t.rejects(collect(new DataLoader(shuffledText(), options)), { code: 'ERR_TOKENIZER', message: /worker ended/ });
  process.off('worker', kill);
  t.equal(alive.size, 0);

  const folder = temporaryFolder();
  cpSync(TOKENIZER_FOLDER, folder, { recursive: true });
  const dataset = BlockDataset.fromFile(PATHS, { tokenizer: await Tokenizer.fromPretrained(folder), blockSize: 32 });
  writeFileSync(join(folder, 'tokenizer_config.json'), '{}');
  await t.rejects(collect(new DataLoader(dataset, options)), { code: 'ERR_TOKENIZER', message: /have changed/ });
  writeFileSync(join(folder, 'tokenizer.json'), '{');
  await t.rejects(collect(new DataLoader(dataset, options)), { code: 'ERR_TOKENIZER', message: /cannot be read/ });
  t.equal(alive.size, 0);
});

t.test('a worker that dies at work: the batches before it, then the error', async (t) => {
  const long = temporaryFile(Array.from({ length: 40 }, () => TEXT.join('\n')).join('\n'));
  const batches = async (numWorkers: number, seen: unknown[]) => {
    const dataset = BlockDataset.fromFile(long, { tokenizer, blockSize: 32 });
    for await (const { inputIds } of new DataLoader(dataset, { batchSize: 8, numWorkers }))
      seen.push([...inputIds.data]);
  };
  const expected: unknown[] = [];
  await batches(0, expected);
  const kill = (worker: Worker) => worker.once('message', () => void worker.terminate());
  process.on('worker', kill);
  const seen: unknown[] = [];
  await t.rejects(batches(2, seen), { code: 'ERR_TOKENIZER', message: /worker ended/ });
  process.off('worker', kill);
  t.ok(seen.length > 0 && seen.length < expected.length, `${seen.length} of ${expected.length} batches`);
  t.same(seen, expected.slice(0, seen.length));
  t.equal(alive.size, 0);
});

t.test('SentencePiece models in workers; those of unigrams without their files, too', async (t) => {
  const models = fileURLToPath(new URL('fixtures/sentencepiece/', import.meta.url));
  const texts = JSON.parse(readFileSync(join(models, 'texts.json'), 'utf8')) as string[];
  const paths = inThree(texts.map((text) => text.replaceAll(/[\r\n]/g, ' ')));
  const expected = new Map<string, unknown>();
  for (const numWorkers of [0, 2]) {
    // User-defined symbols, byte pieces, a dummy space at the end, no rules; and a BPE.
    for (const name of ['unigram-nmt-nfkc', 'unigram-nmt-nfkc-cf', 'unigram-identity', 'unigram-suffix', 'bpe-rules']) {
      const folder = temporaryFolder();
      copyFileSync(join(models, `${name}.model`), join(folder, 'spiece.model'));
      const tokenizer = await Tokenizer.fromPretrained(folder);
      if (name.startsWith('unigram')) rmSync(folder, { recursive: true });
      const before = started;
      const dataset = BlockDataset.fromFile(paths, { tokenizer, blockSize: 16, dropLast: false });
      const batches = await collect(new DataLoader(dataset, { batchSize: 4, numWorkers }));
      t.equal(started - before, numWorkers);
      if (numWorkers === 0) expected.set(name, batches);
      else t.same(batches, expected.get(name), name);
    }
  }
  t.equal(alive.size, 0);
});

t.test('no more batches are made in advance than was asked for', async (t) => {
  for (const [numWorkers, prefetchFactor, ahead] of [
    [0, 5, 1],
    [1, 4, 4],
    [2, 3, 6],
  ]) {
    const source = countingSource(1000);
    const pass = new DataLoader(source, { batchSize: 10, numWorkers, prefetchFactor })[Symbol.asyncIterator]();
    for (let taken = 1; taken <= 3; taken++) {
      await pass.next();
      await sleep(5);
      t.ok(source.pulled <= 10 * (taken + ahead), `${source.pulled} blocks after ${taken} batches`);
    }
    await pass.return();
    await sleep(5);
    const pulled = source.pulled;
    await sleep(5);
    t.equal(source.pulled, pulled, 'and none after the end');
  }
});

t.test('no more text is read in advance than is stated: four chunks for each worker', async (t) => {
  // Each text is a chunk of its own, and far more than a batch.
  const text = 'All human beings are born free. '.repeat(5000);
  for (const numWorkers of [0, 1, 2]) {
    let pulled = 0;
    function* texts() {
      while (pulled++ < 100) yield text;
    }
    const dataset = BlockDataset.fromTexts(texts, { tokenizer, blockSize: 32 });
    const loader = new DataLoader(dataset, { batchSize: 1, numWorkers, prefetchFactor: 1 });
    const pass = loader[Symbol.asyncIterator]();
    await pass.next();
    await sleep(100);
    t.ok(pulled <= Math.max(1, 4 * numWorkers), `${numWorkers} workers: ${pulled} texts`);
    await pass.return();
  }
});

t.test('collate: a function of your own; blocks of mixed lengths', async (t) => {
  const collate: DataLoaderOptions['collate'] = (blocks) => stackBlocks([...blocks].reverse());
  const [batch] = await collect(new DataLoader(countingSource(3), { batchSize: 3, collate }));
  t.same(batch.inputIds, [2, 3, 1, 2, 0, 1]);

  const block = (length: number) => ({ inputIds: new Int32Array(length), labels: new Int32Array(length) });
  t.throws(() => stackBlocks([block(4), block(3)]), { code: 'ERR_DATA', message: /4 ids.*received 3 ids/ });
  t.throws(() => stackBlocks([{ inputIds: new Int32Array(4), labels: new Int32Array(3) }]), { code: 'ERR_DATA' });
  const failing = new DataLoader(countingSource(3), {
    batchSize: 3,
    numWorkers: 1,
    collate: () => {
      throw new RangeError('no');
    },
  });
  await t.rejects(collect(failing), /no/);

  const made = stackBlocks([block(4)]);
  const wrong: [unknown, RegExp][] = [
    [Promise.resolve(made), /received a Promise\n {2}hint: .* not a promise/],
    [undefined, /received undefined/],
    [{ input_ids: made.inputIds, labels: made.labels }, /received an object with input_ids, labels/],
    [{ inputIds: [[1, 2]], labels: [[2, 3]] }, /received an object with inputIds, labels/],
  ];
  for (const [value, message] of wrong) {
    const loader = new DataLoader(countingSource(3), { batchSize: 3, collate: () => value as Batch });
    await t.rejects(collect(loader), { code: 'ERR_DATA', expected: /Int32Array/, message });
  }
});

t.test('the process ends by itself, also when a pass is just forgotten', async (t) => {
  const lib = new URL('../../dist/', import.meta.url).href;
  const script = `
    const { Tokenizer } = await import('${lib}tokenizer/index.js');
    const { BlockDataset, DataLoader } = await import('${lib}data/index.js');
    const tokenizer = await Tokenizer.fromPretrained(process.argv[1]);
    const dataset = BlockDataset.fromFile(process.argv[2], { tokenizer, blockSize: 8 });
    const loader = new DataLoader(dataset, { batchSize: 2, numWorkers: 2 });
    for await (const batch of loader) break;
    // Chunks are under way when a long text is left: whoever waits for the end of its workers is not left alone.
    const texts = Array.from({ length: 20_000 }, (_, i) => 'line number ' + i);
    const long = BlockDataset.fromTexts(texts, { tokenizer, blockSize: 8 });
    for (let i = 0; i < 20; i++) for await (const batch of new DataLoader(long, { batchSize: 2, numWorkers: 1 })) break;
    const forgotten = loader[Symbol.asyncIterator]();
    await forgotten.next();
    process.stdout.write('done');
  `;
  const { stdout, stderr, status, signal } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', script, TOKENIZER_FOLDER, PATH],
    { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
  );
  t.same({ stdout, stderr, status, signal }, { stdout: 'done', stderr: '', status: 0, signal: null });
});

t.test('what ends while a server is silent lets go of it', async (t) => {
  const connections = new Set<Socket>();
  const base = await serve(t, ({ socket, url }, response) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    // One sends its lines and no end, the other one not even its head.
    if (url === '/a.txt') response.write('1\n2\n3\n');
  });
  const closed = async () => {
    for (let i = 0; connections.size > 0 && i < 200; i++) await sleep(10);
    return connections.size === 0;
  };
  const opened = async () => {
    while (connections.size === 0) await sleep(10);
  };
  for (const path of ['/a.txt', '/b.txt']) {
    const dataset = BlockDataset.fromFile(`${base}${path}`, { tokenizer: NUMBERS, blockSize: 2 });
    for (const numWorkers of [0, 1]) {
      const controller = new AbortController();
      const { signal } = controller;
      const shuffled = new BufferedShuffleDataset(dataset);
      const aborted = collect(new DataLoader(shuffled, { batchSize: 2, numWorkers, signal }));
      await opened();
      controller.abort();
      await t.rejects(aborted, { code: 'ERR_ABORTED' });
      t.ok(await closed(), `${path}: the signal of a loader`);
    }
    const batches = new DataLoader(dataset, { batchSize: 2 })[Symbol.asyncIterator]();
    const waiting = batches.next();
    await opened();
    const ended = batches.return(undefined);
    await t.rejects(waiting, { code: 'ERR_IO' });
    t.same(await ended, { done: true, value: undefined });
    t.ok(await closed(), `${path}: return`);

    const controller = new AbortController();
    const ids = dataset.tokens({ signal: controller.signal }).next();
    await opened();
    controller.abort();
    await t.rejects(ids, { code: 'ERR_ABORTED' });
    t.ok(await closed(), `${path}: the signal of tokens()`);
  }
  const controller = new AbortController();
  const training = trainTokenizer({ files: `${base}/a.txt`, vocabSize: 300, signal: controller.signal });
  await opened();
  controller.abort();
  await t.rejects(training, { code: 'ERR_ABORTED' });
  t.ok(await closed(), 'a tokenizer');
});

t.test('options and states that cannot be used', async (t) => {
  const source = countingSource(3);
  for (const options of [
    {},
    { batchSize: 0 },
    { batchSize: 1, prefetchFactor: 0 },
    { batchSize: 1, numWorkers: -1 },
    { batchSize: 1, numWorkers: 1.5 },
    { batchSize: 1, dropLast: 'no' },
    { batchSize: 1, workers: 1 },
    { batchSize: 1, collate: 3 },
    { batchSize: 1, signal: 5 },
    { batchSize: 1, signal: new AbortController() },
    null,
    undefined,
  ] as DataLoaderOptions[]) {
    t.throws(() => new DataLoader(source, options), { code: 'ERR_OPTIONS' }, JSON.stringify(options));
  }
  t.throws(() => new DataLoader(source, { batchSize: 1, shuffle: true } as DataLoaderOptions), {
    message: /shuffle: expected a known name/,
    hint: 'wrap the dataset: new BufferedShuffleDataset(dataset, { bufferSize })',
  });
  for (const dataset of [null, undefined, [], 'train.txt', { blockSize: 8 }]) {
    t.throws(() => new DataLoader(dataset as never, { batchSize: 1 }), {
      code: 'ERR_OPTIONS',
      message: /dataset: expected a BlockDataset/,
    });
  }
  const loader = new DataLoader(shuffledText(), { batchSize: 1 });
  for (const around of [DataLoader, BufferedShuffleDataset]) {
    t.throws(() => new around(loader as never, { batchSize: 1 } as never), {
      code: 'ERR_OPTIONS',
      message: /dataset: expected .* received a loader.*the order is dataset, shuffle, loader/s,
    });
  }
  for (const state of [
    null,
    1,
    'x',
    [],
    {},
    { kind: 'loader' },
    { kind: 'shuffle' },
    { kind: 'loader', source: 3 },
  ] as Json[]) {
    t.throws(() => loader.restore(state), { code: 'ERR_CHECKPOINT' }, JSON.stringify(state));
  }
});
