import { truncateSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { BlockDataset, DataLoader, type Json, TokenDataset, type TokenDatasetOptions } from '../../dist/data/index.js';
import { KotodamaError } from '../../dist/errors.js';
import { collect, NUMBERS, resumeProblem, temporaryFile } from './helpers/blocks.js';
import { printedSeed } from './helpers/seed.js';

/** A token file, written without the library. */
function fileBytes(ids: readonly number[], wide = false): Buffer {
  const bytes = Buffer.alloc(1024 + ids.length * (wide ? 4 : 2));
  for (const [index, value] of [wide ? 20240801 : 20240520, wide ? 7 : 1, ids.length].entries()) {
    bytes.writeInt32LE(value, 4 * index);
  }
  for (const [index, id] of ids.entries()) {
    if (wide) bytes.writeUInt32LE(id, 1024 + 4 * index);
    else bytes.writeUInt16LE(id, 1024 + 2 * index);
  }
  return bytes;
}

function tokenFile(ids: readonly number[], wide = false): string {
  return temporaryFile(fileBytes(ids, wide), 'a.bin');
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => (index * 7) % 1000);
}

t.test('in order, the blocks are those of the same ids as text, wherever files begin', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 1, max: 12 }),
      fc.boolean(),
      fc.boolean(),
      async (lengths, blockSize, dropLast, wide) => {
        const ids = range(lengths.reduce((sum, length) => sum + length, 0));
        fc.pre(ids.length > (dropLast ? blockSize : 1));
        const rest = [...ids];
        const parts = lengths.map((length) => rest.splice(0, length));
        const options = { blockSize, dropLast };
        const text = BlockDataset.fromTexts([ids.join(' ')], { tokenizer: NUMBERS, ...options });
        const tokenizer = { ...NUMBERS, fingerprint: 'x' };
        const paths = parts.map((part, index) => tokenFile(part, wide && index % 2 === 0));
        const dataset = await TokenDataset.open(paths, { ...options, tokenizer, shuffle: false });
        const blocks = await collect(dataset);
        t.equal(dataset.tokens, ids.length);
        t.equal(dataset.blockCount, blocks.length);
        t.same(blocks, await collect(text));
      },
    ),
    { numRuns: 60 },
  );
});

t.test('shuffled, each epoch has every block once, in an order of its own', async (t) => {
  const path = tokenFile(range(2001));
  const options = { blockSize: 10, seed: 3 };
  const plainBlocks = await collect(await TokenDataset.open(path, { ...options, shuffle: false }));
  const dataset = await TokenDataset.open([path], options);
  const sorted = (blocks: typeof plainBlocks) => blocks.map((block) => JSON.stringify(block)).sort();
  const epochs = [await collect(dataset), await collect(dataset), await collect(dataset)];
  for (const epoch of epochs) t.same(sorted(epoch), sorted(plainBlocks));
  t.same(await collect(await TokenDataset.open(path, options)), epochs[0], 'the same again for the same seed');
  const other = await collect(await TokenDataset.open(path, { ...options, seed: 4 }));
  const orders = [...epochs, other, plainBlocks].map((blocks) => JSON.stringify(blocks));
  t.equal(new Set(orders).size, 5);
  for await (const _ of dataset) break;
  t.same(await collect(dataset), await collect(await resumedAt(path, options, 4)), 'an epoch that was left is over');
});

async function resumedAt(path: string, options: TokenDatasetOptions, epoch: number): Promise<TokenDataset> {
  const dataset = await TokenDataset.open(path, options);
  dataset.restore({ ...(dataset.state() as { [key: string]: Json }), epoch });
  return dataset;
}

t.test('continues after any block and any batch, through JSON', async (t) => {
  const path = tokenFile(range(80));
  for (const shuffle of [true, false]) {
    for (const dropLast of [true, false]) {
      const options = { blockSize: 3, shuffle, dropLast };
      const datasets = await Promise.all(Array.from({ length: 100 }, () => TokenDataset.open(path, options)));
      const next = () => datasets.pop() as TokenDataset;
      t.equal(await resumeProblem(next), undefined, `shuffle ${shuffle}, dropLast ${dropLast}`);
      for (const numWorkers of [0, 2]) {
        const loader = () => new DataLoader(next(), { batchSize: 4, numWorkers, prefetchFactor: 3 });
        t.equal(await resumeProblem(loader), undefined, `in batches, ${numWorkers} workers`);
      }
    }
  }
});

t.test('only what is asked for is read', async (t) => {
  const ids = range(101);
  ids[5] = 5000;
  const dataset = await TokenDataset.open(tokenFile(ids), {
    blockSize: 10,
    shuffle: false,
    tokenizer: { fingerprint: 'x', vocabSize: 1000 },
  });
  const state = { ...(dataset.state() as { [key: string]: Json }), position: 1 };
  dataset.restore(state);
  t.equal((await collect(dataset)).length, 9, 'continuing does not read the blocks before');
  await t.rejects(collect(dataset), {
    code: 'ERR_DATA',
    message: /a\.bin holds an id .* at token 5: expected ids below 1000, received 5000/,
  });
});

t.test('every batch has memory of its own, which can be handed on', async (t) => {
  const dataset = await TokenDataset.open(tokenFile(range(1000)), { blockSize: 4 });
  const buffers = new Set<ArrayBufferLike>();
  let batches = 0;
  for await (const { inputIds, labels } of new DataLoader(dataset, { batchSize: 3 })) {
    for (const { data } of [inputIds, labels]) {
      t.equal(data.buffer.byteLength, data.byteLength);
      buffers.add(data.buffer);
    }
    batches++;
  }
  t.equal(buffers.size, 2 * batches);
});

t.test('the blocks before a bad id come first', async (t) => {
  const ids = range(100);
  ids[73] = 1000;
  const tokenizer = { fingerprint: 'x', vocabSize: 1000 };
  const dataset = await TokenDataset.open(tokenFile(ids), { blockSize: 10, shuffle: false, tokenizer });
  const seen: number[] = [];
  await t.rejects(
    async () => {
      for await (const { inputIds } of dataset) seen.push(inputIds[0]);
    },
    { code: 'ERR_DATA', message: /at token 73/ },
  );
  t.same(
    seen,
    [0, 10, 20, 30, 40, 50, 60].map((index) => ids[index]),
  );
});

t.test('ids from 2^31 on are none, whatever the vocabulary', async (t) => {
  for (const id of [2 ** 31, 2 ** 32 - 1]) {
    const dataset = await TokenDataset.open(tokenFile([1, 2, id, 3], true), { blockSize: 3 });
    await t.rejects(collect(dataset), { code: 'ERR_DATA', received: String(id) });
  }
  const largest = await TokenDataset.open(tokenFile([1, 2 ** 31 - 1], true), { blockSize: 1 });
  t.same(await collect(largest), [{ inputIds: [1], labels: [2 ** 31 - 1] }]);
});

t.test('files that are damaged are refused with numbers', async (t) => {
  const good = fileBytes(range(100));
  const change = (offset: number, value: number) => {
    const bytes = Buffer.from(good);
    bytes.writeInt32LE(value, offset);
    return bytes;
  };
  const cases: [string, Buffer, RegExp][] = [
    ['empty', Buffer.alloc(0), /expected a header of 1024 bytes, received 0 bytes/],
    ['no header', good.subarray(0, 1023), /received 1023 bytes/],
    ['text', Buffer.from('hello, world\n'.repeat(200)), /expected a header of 20240520, version 1 \(uint16\) or/],
    ['magic', change(0, 20240522), /received 20240522, version 1/],
    ['ids alone', Buffer.from(new Uint16Array(600).buffer), /received 0, version 0\n.*ids without a header/],
    ['version', change(4, 2), /received 20240520, version 2/],
    ['types mixed', change(4, 7), /received 20240520, version 7/],
    ['negative count', change(8, -1), /expected a count of tokens, received -1/],
    [
      'large count',
      change(8, 2 ** 31 - 1),
      /expected 4294968318 bytes for the 2147483647 tokens.* received 1224 bytes/,
    ],
    ['small count', change(8, 99), /expected 1222 bytes for the 99 tokens of its header, received 1224 bytes/],
    ['truncated', good.subarray(0, 1223), /expected 1224 bytes for the 100 tokens of its header, received 1223/],
    ['longer', Buffer.concat([good, Buffer.alloc(1)]), /received 1225 bytes/],
  ];
  for (const [name, bytes, message] of cases) {
    const path = temporaryFile(bytes, 'a.bin');
    await t.rejects(TokenDataset.open(path, { blockSize: 4 }), { code: 'ERR_DATA', message }, name);
  }
  const path = temporaryFile(good, 'a.bin');
  await t.rejects(TokenDataset.open([path, `${path}x`], { blockSize: 4 }), { code: 'ERR_IO', message: /a\.binx/ });
  await t.rejects(TokenDataset.open(t.testdir(), { blockSize: 4 }), { code: 'ERR_DATA', message: /a directory/ });
});

t.test('a file that becomes shorter, or goes away, after it was opened', async (t) => {
  const path = tokenFile(range(100));
  const dataset = await TokenDataset.open(path, { blockSize: 10, shuffle: false });
  truncateSync(path, 1100);
  await t.rejects(collect(dataset), { code: 'ERR_DATA', message: /became shorter/ });
});

t.test('notes: another tokenizer, another file, no notes, damaged ones', async (t) => {
  const path = tokenFile(range(100));
  const notes = {
    ...{ format: 'kotodama-tokens', version: 1, dtype: 'uint16', tokens: 100, shard: 0, sources: [] },
    tokenizer: { fingerprint: 'a'.repeat(64), vocabSize: 1000 },
  };
  const open = (beside: unknown, tokenizer?: TokenDatasetOptions['tokenizer']) => {
    writeFileSync(`${path}.json`, typeof beside === 'string' ? beside : JSON.stringify(beside));
    return TokenDataset.open(path, { blockSize: 10, tokenizer });
  };
  const tokenizer = { fingerprint: 'b'.repeat(64), vocabSize: 500 };
  await t.rejects(open(notes, tokenizer), {
    code: 'ERR_DATA',
    message: /another tokenizer: expected tokenizer bbbbbbbbbbbb with 500 ids, received aaaaaaaaaaaa with 1000 ids/,
  });
  t.equal((await open(notes, notes.tokenizer)).blockCount, 9);
  t.equal((await open(notes)).blockCount, 9);
  t.equal((await open({ ...notes, documents: [0, 0, 50, 100] })).blockCount, 9);
  const small = await open({ ...notes, tokenizer: { ...notes.tokenizer, vocabSize: 500 } });
  await t.rejects(collect(small), { code: 'ERR_DATA', message: /ids below 500/ });
  for (const [beside, message] of [
    ['', /is not JSON/],
    ['{', /is not JSON/],
    ['null', /'format'/],
    ['[]', /'format'/],
    [{ ...notes, version: 2 }, /expected 1 as 'version', received 2/],
    [{ ...notes, tokens: 99 }, /expected 100, the count of .*received 99/],
    [{ ...notes, dtype: 'uint32' }, /expected 'uint16'.*received 'uint32'/],
    [{ ...notes, tokenizer: null }, /'tokenizer.fingerprint', received undefined/],
    [{ ...notes, tokenizer: { fingerprint: 1, vocabSize: 2 } }, /'tokenizer.fingerprint', received 1/],
    [{ ...notes, tokenizer: { fingerprint: 'a', vocabSize: 0.5 } }, /'tokenizer.vocabSize', received 0.5/],
    ...[0, 'x', [0, 101], [5, 4], [-1], [0.5], ['0'], new Array(2 ** 20 + 1).fill(0)].map(
      (documents) => [{ ...notes, documents }, /places in the file, in order, as 'documents'/] as const,
    ),
    [' '.repeat(2 ** 24 + 1), /at most 16777216/],
  ] as const) {
    await t.rejects(open(beside, notes.tokenizer), { code: 'ERR_DATA', message }, String(message));
  }
});

t.test('thousands of damaged files: read, or refused with a reason', async (t) => {
  const seed = printedSeed(t);
  const good = fileBytes(range(60));
  const path = temporaryFile(good, 'a.bin');
  const outcomes = { read: 0, refused: 0 };
  const byte = fc.integer({ min: 0, max: 255 });
  // Mostly in the header, where damage matters.
  const place = fc.oneof(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 0, max: good.length - 1 }));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(place, byte), { maxLength: 4 }),
      fc.option(fc.integer({ min: 0, max: good.length + 50 }), { freq: 3 }),
      async (changes, length) => {
        const bytes = Buffer.alloc(length ?? good.length);
        good.copy(bytes);
        for (const [offset, value] of changes) if (offset < bytes.length) bytes[offset] = value;
        writeFileSync(path, bytes);
        try {
          const tokenizer = { fingerprint: 'x', vocabSize: 1000 };
          const blocks = await collect(await TokenDataset.open(path, { blockSize: 7, tokenizer }));
          t.equal(blocks.length, 8);
          outcomes.read++;
        } catch (error) {
          if (!(error instanceof KotodamaError) || error.code !== 'ERR_DATA') throw error;
          outcomes.refused++;
        }
      },
    ),
    { numRuns: 2000, seed },
  );
  t.ok(outcomes.read > 100 && outcomes.refused > 100, JSON.stringify(outcomes));
});

t.test('options and states that cannot be used', async (t) => {
  const path = tokenFile(range(100));
  for (const options of [
    {},
    { blockSize: 0 },
    { blockSize: 1.5 },
    { blockSize: 4, seed: -1 },
    { blockSize: 4, shuffle: 'yes' },
    { blockSize: 4, dropLast: 1 },
    { blockSize: 4, bufferSize: 100 },
    { blockSize: 4, tokenizer: null },
    { blockSize: 4, tokenizer: { vocabSize: 100 } },
  ]) {
    const opening = TokenDataset.open(path, options as TokenDatasetOptions);
    await t.rejects(opening, { code: 'ERR_OPTIONS' }, JSON.stringify(options));
  }
  for (const paths of [[], undefined, 3, [1]]) {
    await t.rejects(TokenDataset.open(paths as never, { blockSize: 4 }), { code: 'ERR_OPTIONS' });
  }
  await t.rejects(TokenDataset.open(path, { blockSize: 100 }), {
    code: 'ERR_DATA',
    message: /expected at least 101 tokens for one block, received 100/,
  });
  t.equal((await TokenDataset.open(path, { blockSize: 100, dropLast: false })).blockCount, 1);
  await t.rejects(TokenDataset.open(tokenFile([1]), { blockSize: 4, dropLast: false }), { code: 'ERR_DATA' });
  await t.rejects(TokenDataset.open(tokenFile([]), { blockSize: 4 }), { code: 'ERR_DATA' });

  const dataset = await TokenDataset.open(path, { blockSize: 10 });
  const good = dataset.state() as { [key: string]: Json };
  const changes: { [key: string]: Json }[] = [
    { kind: 'files' },
    { epoch: -1 },
    { position: 10 },
    { position: null },
    { position: 0.5 },
    { blocks: 10 },
    { seed: 1 },
    { seed: null },
  ];
  for (const change of changes) {
    t.throws(() => dataset.restore({ ...good, ...change }), { code: 'ERR_CHECKPOINT' }, JSON.stringify(change));
  }
  for (const state of [null, 1, 'x', []]) t.throws(() => dataset.restore(state), { code: 'ERR_CHECKPOINT' });
  dataset.restore({ ...good, position: 9 });
  t.same(await collect(dataset), [], 'the end of an epoch');
  t.equal((await collect(dataset)).length, 9);
  t.same(await collect(new DataLoader(dataset, { batchSize: 100, dropLast: true })), []);
});
