import { createHash } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { markFiles } from '../../dist/data/content-mark.js';
import {
  type Block,
  BlockDataset,
  type BlockSource,
  BufferedShuffleDataset,
  DataLoader,
  type Json,
  TokenDataset,
  writeTokenFiles,
} from '../../dist/data/index.js';
import { countingSource, NUMBERS } from './helpers/blocks.js';
import { printedSeed } from './helpers/seed.js';

/** Every id of a text is its first number: blocks say themselves which lines they are from. */
const LINE_NUMBERS = {
  ...NUMBERS,
  encode: (text: string) => text.trim().split(' ').filter(Boolean).fill(text.trim().split(' ')[0]).map(Number),
};

async function blocks(source: AsyncIterable<Block>): Promise<Block[]> {
  const found: Block[] = [];
  for await (const block of source) found.push(block);
  return found;
}

async function place(source: BlockSource, { origin }: Block): Promise<string> {
  if (origin === undefined || source.locate === undefined) throw new Error('nobody knows');
  return source.locate(origin);
}

t.test('the lines that a block names are those that its first and last id are from', async (t) => {
  const folder = t.testdir();
  const seed = printedSeed(t);
  let count = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 3 }), {
        minLength: 1,
        maxLength: 2,
      }),
      fc.integer({ min: 1, max: 7 }),
      fc.boolean(),
      async (files, blockSize, dropLast) => {
        // Lines of different lengths, empty ones too, numbered through all files.
        let line = 0;
        const lengths = files.map((file) => file.flatMap((words) => [words, 0, words + 2]));
        const names = lengths.map((file, index) => {
          const path = join(folder, `${index}-${count++}.txt`);
          writeFileSync(path, file.map((words) => `${line++} `.repeat(words)).join('\n'));
          return path;
        });
        const dataset = BlockDataset.fromFile(names, { tokenizer: LINE_NUMBERS, blockSize, dropLast });
        const nameOf = (number: number) => {
          const first = (lengths[0] as number[]).length;
          return number < first ? `${names[0]} line ${number + 1}` : `${names[1]} line ${number - first + 1}`;
        };
        const found = await blocks(dataset).catch(() => []);
        for (const block of found) {
          const last = block.labels.filter((label) => label !== -100).at(-1) as number;
          const [a, b] = [nameOf(block.inputIds[0] as number), nameOf(last)];
          const [file, from] = a.split(' line ');
          const expected =
            a === b
              ? a
              : b.startsWith(`${file} `)
                ? `${file} lines ${from} to ${b.split(' line ')[1]}`
                : `${a} to ${b}`;
          if ((await place(dataset, block)) !== expected)
            throw new Error(`${await place(dataset, block)}: ${expected}`);
        }
      },
    ),
    { seed },
  );
});

t.test('bytes of compressed texts, rows of tables, numbers of texts and tokens', async (t) => {
  const folder = t.testdir({ 'a.jsonl': '{"text": "1 2 3"}\n{"text": "4 5 6 7"}\n' });
  const options = { tokenizer: NUMBERS, blockSize: 2 };
  const texts = ['1 2 3', '4', '5 6 7'];
  writeFileSync(join(folder, 'a.txt.gz'), gzipSync(texts.join('\n')));
  const places = async (source: BlockSource) => {
    const found = await blocks(source);
    return Promise.all(found.map((block) => place(source, block)));
  };
  const gz = join(folder, 'a.txt.gz');
  t.same(await places(BlockDataset.fromFile(gz, options)), [`${gz} byte 0`, `${gz} bytes 0 to 8`, `${gz} byte 8`]);
  const jsonl = join(folder, 'a.jsonl');
  t.same(await places(BlockDataset.fromFile(jsonl, options)), [
    `${jsonl} line 1`,
    `${jsonl} lines 1 to 2`,
    `${jsonl} line 2`,
  ]);
  t.same(await places(BlockDataset.fromTexts(texts, options)), ['text 0', 'texts 0 to 2', 'text 2']);
  const table = join('test/unit/fixtures/sources/zstd.parquet');
  const rows = await places(BlockDataset.fromFile(table, { ...options, tokenizer: ROWS, blockSize: 4 }));
  t.match(rows[0], /zstd\.parquet rows 1 to \d+$/);

  const ids = async function* () {
    yield Int32Array.from({ length: 9 }, (_, id) => id);
  };
  const mark = { vocabSize: 10, fingerprint: 'x' };
  const output = join(folder, 'a.bin');
  const written = await writeTokenFiles(ids(), { output, tokenizer: mark, sources: [], shardTokens: 5 });
  const paths = written.map(({ path }) => path);
  const tokens = await TokenDataset.open(paths, { blockSize: 4, shuffle: false, dropLast: false });
  t.same(await places(tokens), [`${paths[0]} tokens 0 to 4`, `${paths[0]} token 4 to ${paths[1]} token 3`]);
});

/** One id for each text. */
const ROWS = { ...NUMBERS, encode: () => [1] };

t.test('origins come through shuffling, saved states and batches', async (t) => {
  const texts = Array.from({ length: 40 }, (_, index) => `${index} ${index} ${index}`);
  const make = () => {
    const dataset = BlockDataset.fromTexts(texts, { tokenizer: LINE_NUMBERS, blockSize: 3 });
    const shuffled = new BufferedShuffleDataset(dataset, { bufferSize: 8, seed: 3 });
    return new DataLoader(shuffled, { batchSize: 2, dropLast: true });
  };
  const check = async (loader: DataLoader, state?: Json) => {
    if (state !== undefined) loader.restore(state);
    let rows = 0;
    for await (const { inputIds, origins } of loader) {
      for (const [row, origin] of (origins ?? []).entries()) {
        const from = inputIds.data[row * 3] as number;
        t.equal(await loader.locate(origin), from === 39 ? 'text 39' : `texts ${from} to ${from + 1}`);
        rows++;
      }
    }
    return rows;
  };
  t.equal(await check(make()), 38);
  const stopped = make();
  for await (const _ of stopped) break;
  const state = JSON.parse(JSON.stringify(stopped.state()));
  t.equal(await check(make(), state), 36);
});

t.test('sources that know nothing of origins', async (t) => {
  const loader = new DataLoader(new BufferedShuffleDataset(countingSource(5), { bufferSize: 2 }), { batchSize: 2 });
  for await (const batch of loader) t.notOk('origins' in batch);
  t.equal(await loader.locate([0, 0, 0, 0]), 'an unknown place');
  t.match(await loader.identity(), { batchSize: 2, of: { bufferSize: 2, seed: 0, of: null } });
});

t.test('the identity of data follows its content, not its folder', async (t) => {
  const folder = t.testdir({ a: { 'x.txt': '1 2 3 4' }, b: { 'x.txt': '1 2 3 4' } });
  const identity = async (name: string, seed = 1, random?: () => never) => {
    const dataset = BlockDataset.fromFile(join(folder, name, 'x.txt'), { tokenizer: NUMBERS, blockSize: 2 });
    const options = { bufferSize: 8, seed, ...(random !== undefined && { random }) };
    return new DataLoader(new BufferedShuffleDataset(dataset, options), { batchSize: 2 }).identity();
  };
  const sha256 = createHash('sha256').update('1 2 3 4').digest('hex');
  const found = await identity('a');
  t.match(found, {
    of: {
      bufferSize: 8,
      seed: 1,
      of: { source: 'files', count: 1, bytes: 7, files: [{ name: 'x.txt', bytes: 7, sha256 }] },
    },
  });
  t.same(await identity('b'), found);
  t.notSame(await identity('a', 2), found);
  t.match(
    await identity('a', 1, () => {
      throw new Error();
    }),
    { of: { seed: null } },
  );
  writeFileSync(join(folder, 'b', 'x.txt'), '1 2 3 5');
  t.notSame(await identity('b'), found);
  const ofTexts = (texts: Parameters<typeof BlockDataset.fromTexts>[0]) =>
    BlockDataset.fromTexts(texts, { tokenizer: NUMBERS, blockSize: 2 }).identity();
  const plain = { source: 'texts', blockSize: 2, eos: 'none', dropLast: true };
  t.same(await ofTexts(['1']), {
    ...plain,
    count: 1,
    sha256: createHash('sha256').update('1 1').digest('hex'),
  });
  for (const other of [['2'], ['1', ''], ['', '1'], [1 as unknown as string]]) {
    t.notSame(await ofTexts(other), await ofTexts(['1']), JSON.stringify(other));
  }
  t.notSame(await ofTexts(['1', '23']), await ofTexts(['12', '3']), 'texts end elsewhere');
  t.same(await ofTexts(() => ['1']), plain, 'nobody knows what a function will give');
  t.same(await ofTexts(new Set(['1'])), plain);
  t.match(await BlockDataset.fromFile('https://localhost/z.txt', { tokenizer: NUMBERS, blockSize: 2 }).identity(), {
    unmarked: ['z.txt'],
  });
});

t.test('large files are sampled: a change of their size, their beginning or their end is noticed', async (t) => {
  const folder = t.testdir();
  // 4096 files share the budget: one piece of 64 KiB is left for each, and never fewer than two are read.
  const path = join(folder, 'big.bin');
  writeFileSync(path, Buffer.alloc(200_000, 1));
  const others = Array.from({ length: 4095 }, () => 'LICENSE');
  const mark = async () => (await markFiles([path, ...others])).sha256;
  const before = await mark();
  t.equal(await mark(), before);
  const marks = new Set([before]);
  for (const at of [0, 199_999]) {
    const bytes = Buffer.alloc(200_000, 1);
    bytes[at] = 2;
    writeFileSync(path, bytes);
    marks.add(await mark());
  }
  writeFileSync(path, Buffer.alloc(200_000, 1));
  t.equal(await mark(), before);
  appendFileSync(path, '\x01');
  marks.add(await mark());
  t.equal(marks.size, 4);
  t.equal((await markFiles([path])).bytes, 200_001);
  t.match((await markFiles([path])).files, [{ sha256: createHash('sha256').update(readFileSync(path)).digest('hex') }]);
  t.notOk('files' in (await markFiles(others)), 'not thousands of them');
  await t.rejects(markFiles([join(folder, 'nothing')]), { code: 'ERR_IO' });
});
