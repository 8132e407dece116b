import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { BlockDataset, type FileDatasetOptions, writeTokenFiles } from '../../dist/data/index.js';
import { inspectTokenFile } from '../../dist/data/token-file.js';
import { checkOutput } from '../../dist/data/token-file-writer.js';
import { NUMBERS, temporaryFile } from './helpers/blocks.js';
import { temporaryFolder } from './helpers/temporary-folder.js';

const MARK = { fingerprint: 'abc', vocabSize: 1000 };

async function* pieces(...lists: readonly (readonly number[])[]): AsyncGenerator<Int32Array> {
  for (const list of lists) yield Int32Array.from(list);
}

/** The ids of a uint16 file, read as llm.c's dataloader.h does. */
function readLlmc(path: string): number[] {
  const bytes = readFileSync(path);
  const header = Array.from({ length: 256 }, (_, i) => bytes.readInt32LE(4 * i));
  t.same(header.slice(0, 2), [20240520, 1]);
  t.ok(header.slice(3).every((value) => value === 0));
  t.equal(bytes.length, 1024 + 2 * header[2]);
  return Array.from({ length: header[2] }, (_, i) => bytes.readUInt16LE(1024 + 2 * i));
}

t.test('one file, as llm.c reads it, and notes beside it', async (t) => {
  const output = join(temporaryFolder(), 'sub', 'a.bin');
  const progress: number[] = [];
  const [file, ...others] = await writeTokenFiles(pieces([1, 2, 3], [], [999], [0, 5]), {
    output,
    tokenizer: MARK,
    sources: ['a.txt'],
    onProgress: (tokens) => progress.push(tokens),
  });
  t.same(others, []);
  t.same(readLlmc(output), [1, 2, 3, 999, 0, 5]);
  t.same(progress, [3, 4, 6]);
  const notes = JSON.parse(readFileSync(`${output}.json`, 'utf8'));
  t.same(notes, {
    ...{ format: 'kotodama-tokens', version: 1, tokenizer: MARK, dtype: 'uint16', tokens: 6, shard: 0 },
    sources: ['a.txt'],
  });
  t.same(file, { path: output, dtype: 'uint16', tokens: 6, notes });
  t.same(await inspectTokenFile(output), file);
  t.same(readdirSync(join(output, '..')).sort(), ['a.bin', 'a.bin.json'], 'nothing else stays');
});

t.test('the notes tell where documents begin', async (t) => {
  const tokenizer = { ...NUMBERS, ...MARK, eosTokenId: 998 };
  const [first, second] = [temporaryFile('1 2 3\n4\n\n', 'a.txt'), temporaryFile('5\n6 7\n', 'b.txt')];
  const records = temporaryFile('{"text":"10 11"}\n{"text":""}\n{"text":"12"}\n{"text":""}\n', 'a.jsonl');
  const write = async (
    paths: string[],
    options: Partial<FileDatasetOptions>,
    shardTokens?: number,
  ): Promise<[number[], number[] | undefined][]> => {
    const dataset = BlockDataset.fromFile(paths, { tokenizer, blockSize: 1, ...options });
    const output = join(temporaryFolder(), 'a.bin');
    const files = await writeTokenFiles(dataset.tokens(), { output, tokenizer, sources: paths, shardTokens });
    for (const file of files) t.same(await inspectTokenFile(file.path), file);
    return files.map(({ path, notes }) => [readLlmc(path), notes?.documents]);
  };
  t.same(
    await write([first, second], {}),
    [
      [
        [1, 2, 3, 4, 5, 6, 7],
        [0, 4],
      ],
    ],
    'a file of lines is one',
  );
  t.same(
    await write([first, second], { eos: 'document' }),
    [
      [
        [1, 2, 3, 4, 998, 5, 6, 7, 998],
        [0, 5],
      ],
    ],
    'with an end after each',
  );
  t.same(await write([first], { eos: 'line' }), [[[1, 2, 3, 998, 4, 998, 998], [0]]]);
  t.same(
    await write([records, first], {}),
    [
      [
        [10, 11, 12, 1, 2, 3, 4],
        [0, 2, 2, 3, 3],
      ],
    ],
    'a record is one',
  );
  t.same(
    await write([records], { eos: 'document' }),
    [
      [
        [10, 11, 998, 998, 12, 998, 998],
        [0, 3, 4, 6],
      ],
    ],
    'empty ones count',
  );
  t.same(
    await write([records, first], {}, 3),
    [
      [
        [10, 11, 12],
        [0, 2, 2],
      ],
      [
        [1, 2, 3],
        [0, 0],
      ],
      [[4], []],
    ],
    'several files: each has those that begin in it',
  );
  t.same(
    await write([records], {}),
    [
      [
        [10, 11, 12],
        [0, 2, 2, 3],
      ],
    ],
    'an empty one at the very end',
  );

  async function* many() {
    for (let i = 0; i < 17; i++)
      yield { ids: new Int32Array(70_000), documents: Array.from({ length: 70_000 }, (_, k) => k) };
  }
  const output = join(temporaryFolder(), 'many.bin');
  const [file, rest] = await writeTokenFiles(many(), { output, tokenizer: MARK, sources: [], shardTokens: 1_100_000 });
  t.equal(file.notes?.documents, undefined, 'too many to list');
  t.equal(rest.notes?.documents?.length, 90_000);
  const text = readFileSync(`${rest.path}.json`, 'utf8');
  t.equal(text.split('\n').length, 14, 'the list is one line');
});

t.test('a vocabulary above 65,536 makes a file of uint32', async (t) => {
  const output = join(temporaryFolder(), 'a.bin');
  const ids = [65_536, 1, 100_000];
  const tokenizer = { fingerprint: 'x', vocabSize: 128_256 };
  await writeTokenFiles(pieces(ids), { output, tokenizer, sources: [] });
  const bytes = readFileSync(output);
  t.same([bytes.readInt32LE(0), bytes.readInt32LE(4), bytes.readInt32LE(8)], [20240801, 7, 3]);
  t.same(
    [0, 4, 8].map((offset) => bytes.readUInt32LE(1024 + offset)),
    ids,
  );
  t.equal(bytes.length, 1024 + 12);
  const edge = join(temporaryFolder(), 'b.bin');
  await writeTokenFiles(pieces([65_535]), {
    output: edge,
    tokenizer: { ...tokenizer, vocabSize: 65_536 },
    sources: [],
  });
  t.same(readLlmc(edge), [65_535]);
});

t.test('several files hold the same ids, however they come and are cut', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.integer({ min: 0, max: 999 }), { maxLength: 9 }), { minLength: 1, maxLength: 9 }),
      fc.integer({ min: 1, max: 12 }),
      async (lists, shardTokens) => {
        const ids = lists.flat();
        fc.pre(ids.length > 0);
        const base = temporaryFolder();
        const output = join(base, 'x.bin');
        const files = await writeTokenFiles(pieces(...lists), { output, tokenizer: MARK, sources: [], shardTokens });
        const names = files.map((_, index) => join(base, `x_${String(index).padStart(6, '0')}.bin`));
        t.same(
          files.map(({ path }) => path),
          names,
        );
        t.same(
          files.map(({ notes }) => notes?.shard),
          [...names.keys()],
        );
        t.ok(files.slice(0, -1).every(({ tokens }) => tokens === shardTokens));
        t.same(names.flatMap(readLlmc), ids);
        t.equal(readdirSync(base).length, 2 * names.length);
      },
    ),
    { numRuns: 40 },
  );
});

t.test('what fails leaves nothing behind', async (t) => {
  const base = temporaryFolder();
  const output = join(base, 'a.bin');
  async function* failing() {
    yield Int32Array.of(1, 2, 3, 4, 5);
    throw new RangeError('the source broke');
  }
  const options = { output, tokenizer: MARK, sources: [] };
  await t.rejects(writeTokenFiles(failing(), { ...options, shardTokens: 2 }), { message: /^the source broke/ });
  await t.rejects(writeTokenFiles(failing(), options), { message: /the source broke/ });
  await t.rejects(writeTokenFiles(pieces([], []), options), { code: 'ERR_DATA', message: /no tokens/ });
  for (const bad of [1000, -1, 70_000]) {
    await t.rejects(writeTokenFiles(pieces([1, bad]), options), {
      code: 'ERR_TOKENIZER',
      message: `expected ids from 0 to 999, received ${bad}`,
    });
  }
  t.same(readdirSync(base), []);
});

t.test('a file never stands without its notes, nor notes without their file', async (t) => {
  const base = temporaryFolder();
  const options = { tokenizer: MARK, sources: [] };
  // The longest name that has room for the ending of a temporary file, but not of that of the notes.
  const long = join(base, `${'x'.repeat(231)}.bin`);
  await t.rejects(writeTokenFiles(pieces([1, 2]), { ...options, output: long }), {
    code: 'ERR_IO',
    message: /\.bin\.json could not be written/,
  });
  t.same(readdirSync(base), []);

  const output = join(base, 'a.bin');
  async function* inTheWay() {
    yield Int32Array.of(1, 2);
    mkdirSync(output);
  }
  await t.rejects(writeTokenFiles(inTheWay(), { ...options, output }), { code: 'ERR_IO' });
  t.same(readdirSync(base), ['a.bin'], 'only the folder');

  const good = join(base, 'b.bin');
  await writeTokenFiles(pieces([1, 2]), { ...options, output: good });
  t.ok(statSync(`${good}.json`).ctimeMs <= statSync(good).ctimeMs, 'the notes have their name first');
});

t.test('nothing is overwritten, and a folder that cannot be made is named', async (t) => {
  const base = temporaryFolder();
  const output = join(base, 'a.bin');
  const options = { output, tokenizer: MARK, sources: [] };
  await writeTokenFiles(pieces([1, 2]), options);
  await t.rejects(writeTokenFiles(pieces([7]), options), { code: 'ERR_IO', message: /a\.bin is there already/ });
  t.same(readLlmc(output), [1, 2]);
  t.throws(() => checkOutput(output, false), { code: 'ERR_IO' });
  checkOutput(output, true);
  checkOutput(join(base, 'no-folder', 'a.bin'), true);
  writeFileSync(output.replace('.bin', '_000002.bin.json'), '');
  writeFileSync(output.replace('.bin', '_b.bin'), '');
  checkOutput(output, true);
  const later = output.replace('.bin', '_000002.bin');
  writeFileSync(later, '');
  t.throws(() => checkOutput(output, true), { code: 'ERR_IO', message: `${later} is there already` });
  t.throws(() => checkOutput(join(base, 'a.txt'), false), { code: 'ERR_OPTIONS', message: /ends in \.bin/ });

  writeFileSync(join(base, 'file'), '');
  const inFile = join(base, 'file', 'b.bin');
  await t.rejects(writeTokenFiles(pieces([1]), { ...options, output: inFile }), { code: 'ERR_IO' });

  writeFileSync(`${join(base, 'c.bin')}.json`, '{"old": true}');
  await writeTokenFiles(pieces([3]), { ...options, output: join(base, 'c.bin') });
  t.equal((await inspectTokenFile(join(base, 'c.bin'))).notes?.tokens, 1, 'old notes are replaced');
});
