import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { BlockDataset, DataLoader } from '../../dist/data/index.js';
import { KotodamaError } from '../../dist/errors.js';
import { folderOf, NUMBERS, temporaryFile } from './helpers/blocks.js';
import { printedSeed } from './helpers/seed.js';
import { openFiles, textsAndFailure, textsOf } from './helpers/sources.js';

const FIXTURES = fileURLToPath(new URL('./fixtures/sources', import.meta.url));
const LINES = Array.from({ length: 3000 }, (_, i) => `${i} 言葉 ${'x'.repeat(i % 97)}`);
const TEXT = LINES.map((line) => `${line}\n`).join('');
const seed = printedSeed(t);

/** Bytes with some of them changed, cut off, or doubled. */
function mutated(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat(bytes.length - 1);
  const change = fc.oneof(
    fc.record({ at, value: fc.nat(255) }).map(
      ({ at, value }) =>
        (b: Uint8Array) =>
          b.fill(value, at % b.length, (at % b.length) + 1),
    ),
    fc.record({ at, bit: fc.nat(7) }).map(({ at, bit }) => (b: Uint8Array) => {
      b[at % b.length] ^= 1 << bit;
      return b;
    }),
    at.map((end) => (b: Uint8Array) => b.slice(0, Math.max(1, end))),
    fc.record({ at, length: fc.nat(64) }).map(({ at, length }) => (b: Uint8Array) => {
      return Buffer.concat([b.subarray(0, at), b.subarray(at, at + length), b.subarray(at)]);
    }),
  );
  return fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => {
    return changes.reduce<Uint8Array>(
      (result, apply) => (result.length === 0 ? result : apply(result)),
      Uint8Array.from(bytes),
    );
  });
}

/** Reads damaged files: they end well or with an error of ours, and leave no file open. */
async function survives(name: string, bytes: Uint8Array, numRuns: number): Promise<void> {
  const path = temporaryFile(bytes, name);
  await fc.assert(
    fc.asyncProperty(mutated(bytes), async (damaged) => {
      writeFileSync(path, damaged);
      const { failure } = await textsAndFailure(path);
      return failure === undefined || (failure instanceof KotodamaError && /^ERR_(DATA|IO)$/.test(failure.code));
    }),
    { numRuns, seed },
  );
}

t.test('thousands of damaged compressed files and JSON lines', async (t) => {
  const jsonl = LINES.slice(0, 40)
    .map((text) => `${JSON.stringify({ a: [1, { b: null }], text })}\n`)
    .join('');
  const before = openFiles();
  // Of small files thousands can be read; large ones have several pieces and blocks.
  await survives('a.jsonl.gz', gzipSync(jsonl), 1800);
  await survives('a.txt.gz', gzipSync(TEXT), 200);
  await survives('a.jsonl', Buffer.from(jsonl), 2000);
  await survives('a.jsonl.zst', readFileSync(join(FIXTURES, 'texts.jsonl.zst')), 1500);
  await survives('a.txt.zst', readFileSync(join(FIXTURES, 'lines-1.txt.zst')), 500);
  t.equal(openFiles(), before);
});

/** Reads Parquet files in one thread, where starting one for each would be most of the work; gives the rows or undefined. */
const READ_PARQUET = `
  const { parentPort, workerData } = require('node:worker_threads');
  parentPort.on('message', async (path) => {
    const { ParquetTexts } = await import(workerData);
    let rows = 0;
    try {
      for await (const { texts } of new ParquetTexts(path, { text: 'text' }).read(0)) rows += texts.length;
    } catch (error) {
      rows = error instanceof Error ? undefined : 'not an error';
    }
    parentPort.postMessage(rows);
  });
`;

t.test('thousands of damaged Parquet files', async (t) => {
  const before = openFiles();
  const workerData = new URL('../../dist/data/sources/parquet-texts.js', import.meta.url).href;
  const worker = new Worker(READ_PARQUET, { eval: true, execArgv: [], workerData });
  const rowsOf = async (path: string): Promise<unknown> => {
    worker.postMessage(path);
    const [rows] = await once(worker, 'message');
    return rows;
  };
  for (const name of ['none', 'snappy', 'gzip', 'brotli', 'zstd', 'lz4', 'pages', 'dictionary']) {
    const bytes = readFileSync(join(FIXTURES, `${name}.parquet`));
    const path = temporaryFile(bytes, `${name}.parquet`);
    t.equal(await rowsOf(path), 60, `${name}, before it is damaged`);
    await fc.assert(
      fc.asyncProperty(mutated(bytes), async (damaged) => {
        writeFileSync(path, damaged);
        const rows = await rowsOf(path);
        return rows === undefined || (typeof rows === 'number' && rows >= 0 && rows <= 60);
      }),
      { numRuns: 500, seed, endOnFailure: true },
    );
  }
  await worker.terminate();
  const levels = readFileSync(join(FIXTURES, 'pages.parquet'));
  levels[166] = 0; // ends the page header before the lengths of its levels
  const { failure } = await textsAndFailure(temporaryFile(levels, 'a.parquet'));
  t.match(failure, { code: 'ERR_DATA', message: /levels do not fit/ }, 'the decoder would never come to an end');
  const whole = readFileSync(join(FIXTURES, 'zstd.parquet'));
  for (const end of [3, 100, whole.length - 1]) {
    const { failure } = await textsAndFailure(temporaryFile(whole.subarray(0, end), 'a.parquet'));
    t.match(failure, { code: 'ERR_DATA', message: /a\.parquet cannot be read as Parquet/ });
  }
  t.equal(openFiles(), before);
});

t.test('files that are cut off give what came before', async (t) => {
  for (const [name, bytes] of [
    ['a.txt.gz', gzipSync(TEXT)],
    ['a.txt.zst', readFileSync(join(FIXTURES, 'lines-1.txt.zst'))],
  ] as const) {
    for (const end of [5, 200, bytes.length - 9, bytes.length - 1]) {
      const { texts, failure } = await textsAndFailure(temporaryFile(bytes.subarray(0, end), name));
      t.match(
        failure,
        { code: 'ERR_DATA', message: /is damaged or cut off after \d+ bytes of its text/ },
        `${name} ${end}`,
      );
      t.same(texts, LINES.slice(0, texts.length), 'nothing wrong before');
    }
  }
  const gz = gzipSync(TEXT);
  t.ok((await textsAndFailure(temporaryFile(gz.subarray(0, gz.length - 1), 'a.txt.gz'))).texts.length > 2900);
});

t.test('names that promise what the file does not hold', async (t) => {
  const cases: [string, string | Uint8Array, RegExp][] = [
    ['a.txt.gz', 'text\n', /is not gzip data: expected the bytes 1f 8b.* received 74 65 78 74/],
    ['a.txt.zst', 'text\n', /is not zstd data/],
    ['a.txt.gz', readFileSync(join(FIXTURES, 'lines-1.txt.zst')), /is not gzip data/],
    ['a.gz', '\x1f', /is not gzip data/],
    ['a.parquet', 'PAR1', /cannot be read as Parquet/],
    ['a.parquet', 'PAR1 nothing here PAR1', /cannot be read as Parquet/],
    ['a.jsonl', 'text\n', /line 1, is not JSON/],
    ['a.txt', Uint8Array.from([0xff, 0xfe, 0x61, 0]), /--encoding utf-16le/],
    ['t.txt', Uint8Array.from([0x88, 0xd8, 0x34, 1, 1, 0, 0, 0]), /this is a token file/],
    ['u.txt', Uint8Array.from([0xa1, 0xd9, 0x34, 1, 7, 0, 0, 0]), /this is a token file/],
  ];
  for (const [name, content, message] of cases) {
    t.match((await textsAndFailure(temporaryFile(content, name))).failure, { code: 'ERR_DATA', message }, name);
  }
  for (const name of ['a.txt.gz', 'a.txt.zst', 'a.jsonl', 'a.parquet']) {
    await t.rejects(textsOf(temporaryFile('', name)), { code: 'ERR_DATA', message: /an empty file/ });
  }
  await t.rejects(textsOf(temporaryFile('x', 'a.parquet.gz')), { code: 'ERR_OPTIONS' });
});

/** What xz, bzip2 and zip make of a line `text`. */
const PACKED = {
  xz: '/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAEdGV4dAoAAAAAHSvSiq8ZTM0AAR0FuC2Arx+2830BAAAAAARZWg==',
  bz2: 'QlpoOTFBWSZTWcBv4GUAAAHBgAAQAgAEQCAAIYyDNNCI8XckU4UJDAb+BlA=',
  zip: `UEsDBBQAAAAAAAAAIQAn2uw3BQAAAAUAAAAFAAAAYS50eHR0ZXh0ClBLAQIUAxQAAAAAAAAAIQAn2uw3BQAAAAUAAAAFAAAAAAAAAAAAAACAAQAA
AABhLnR4dFBLBQYAAAAAAQABADMAAAAoAAAAAAA=`,
};

t.test('archives, and what is packed in other ways, are no text', async (t) => {
  const folder = folderOf(temporaryFile('text\n', 'a.txt'));
  const tar = (...flags: string[]) => spawnSync('tar', [...flags, '-cf', '-', 'a.txt'], { cwd: folder }).stdout;
  const [gnu, posix] = [tar('--format=gnu'), tar('--format=pax')];
  const of = (name: keyof typeof PACKED) => Buffer.from(PACKED[name], 'base64');
  const cases: [string, Uint8Array, RegExp][] = [
    ['a.tar', gnu, /a\.tar is a tar archive: .*\n {2}hint: unpack it/],
    ['a.tar', posix, /is a tar archive/],
    ['a.tar.gz', gzipSync(posix), /is a tar archive/],
    ['a.tgz', gzipSync(gnu), /is a tar archive/],
    ['a.jsonl.gz', gzipSync(gnu), /is a tar archive/],
    ['a.txt.xz', of('xz'), /is xz data: .*\n {2}hint: unpack it, or pack it with gzip or zstd/],
    ['a.txt.bz2', of('bz2'), /is bzip2 data/],
    ['a.zip', of('zip'), /is a zip archive: .*\n {2}hint: unpack it, and give/],
    ['a.jsonl', of('zip'), /is a zip archive/],
  ];
  const before = openFiles();
  for (const [name, content, message] of cases) {
    const { texts, failure } = await textsAndFailure(temporaryFile(content, name));
    t.match(failure, { code: 'ERR_DATA', message }, name);
    t.same(texts, [], name);
  }
  t.equal(openFiles(), before);
  const texts = ['BZh9', 'PK', `${'x'.repeat(248)}gustar  `, '7zXZ'].reverse();
  for (const text of texts) t.same(await textsOf(temporaryFile(`${text}\n`)), [text], 'a text may have such words');
  t.same(await textsOf(temporaryFile(gzipSync(`${'x'.repeat(256)}gustar y\n`), 'a.gz')), [
    `${'x'.repeat(256)}gustar y`,
  ]);
});

t.test('a JSON array is no JSON lines, and leaving out what is bad is no cure', async (t) => {
  const records = [{ text: 'a' }, { text: 'b' }];
  for (const content of [JSON.stringify(records), JSON.stringify(records, undefined, 1), '\ufeff [\n]\n']) {
    const { texts, failure } = await textsAndFailure(temporaryFile(content, 'a.json'));
    t.match(failure, { code: 'ERR_DATA', message: /a\.json, line 1, begins a JSON array.*\n.*hint: .*jq -c '\.\[\]'/ });
    t.notMatch(failure?.message, /skip/);
    t.same(texts, []);
  }
  const later = await textsAndFailure(temporaryFile('{"text":"a"}\n[1]\n', 'a.jsonl'));
  t.match(later.failure, { message: /line 2, is not a record.*received an array.*\n.*--skip-bad/ });
  const header = temporaryFile('["text","id"]\n{"text":"a"}\n', 'a.jsonl');
  t.match((await textsAndFailure(header)).failure, {
    message: /line 1, is not a record.*received an array.*\n.*--skip-bad/,
  });
  t.same(await textsOf(header, { onBad: () => {} }), ['a']);
});

t.test('JSON that is hostile', async (t) => {
  const deep = '['.repeat(2_000_000);
  t.match((await textsAndFailure(temporaryFile(`${deep}\n`, 'a.jsonl'))).failure, { code: 'ERR_DATA' });
  const nul = temporaryFile('{"text":"a\\u0000b"}\n{"text":"a\0b"}\n', 'a.jsonl');
  const { texts, failure } = await textsAndFailure(nul);
  t.same(texts, ['a\0b'], 'an escaped NUL is a character');
  t.match(failure, { message: /line 2, is not JSON/ }, 'a bare one is not allowed');
});

/** Reads a file; says how many texts it has, what ended them, and the most memory that the process held. */
const READ_ALL = `
  import { readFileSync } from 'node:fs';
  import { BlockDataset } from '${new URL('../../dist/data/index.js', import.meta.url).href}';
  let texts = 0;
  const encode = () => {
    texts++;
    return [1];
  };
  const tokenizer = { vocabSize: 2, padTokenId: 0, encode, decode: () => '' };
  const dataset = BlockDataset.fromFile(process.argv[1], { tokenizer, blockSize: 64, skipBad: true });
  let failure;
  try {
    for await (const _ of dataset);
  } catch (error) {
    failure = error.message;
  }
  const [, peak] = /^VmHWM:\\s+(\\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'));
  process.stdout.write(JSON.stringify({ texts, failure, peak: 1024 * peak }));
`;

interface Reading {
  texts: number;
  failure?: string;
  /** Bytes. */
  peak: number;
}

/** What READ_ALL says in a process of its own: memory of this one may be in use or free again for other reasons. */
function readAlone(path: string): Reading {
  const words = ['--input-type=module', '-e', READ_ALL, path];
  const env = { ...process.env, NODE_OPTIONS: '' };
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', env });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Reading;
}

/** The second of two files has 384 MiB more text, and reading it takes less than a quarter of that. */
function staysFlat(t: Test, few: Reading, many: Reading): void {
  const more = (many.peak - few.peak) / 2 ** 20;
  t.ok(more < 384 / 4, `${Math.round(more)} MiB more memory for 384 MiB more text`);
}

t.test('bombs: memory stays flat, and a line without end is refused', async (t) => {
  const zeros = Buffer.alloc(64 * 1024 * 1024);
  const bomb = gzipSync(zeros);
  const lines = gzipSync(Buffer.alloc(32 * 1024 * 1024, `${'a'.repeat(1023)}\n`));
  const path = temporaryFile(Buffer.concat([bomb, bomb, bomb]), 'bomb.gz');
  t.match((await textsAndFailure(path)).failure, { code: 'ERR_DATA', message: /line 1, is too long a line/ });
  const repeated = (member: Buffer, times: number, end = '') =>
    temporaryFile(Buffer.concat([...new Array(times).fill(member), gzipSync(end)]), 'repeated.gz');
  const long = [2, 8].map((times) => repeated(bomb, times, '\n1 2\n'));
  t.same(await textsOf(long, { onBad: () => {} }), ['1 2', '1 2'], 'it can be left out');
  const [shorter, longer] = long.map(readAlone);
  t.same([shorter.texts, longer.texts], [1, 1]);
  staysFlat(t, shorter, longer);
  const [few, many] = [4, 16].map((times) => readAlone(repeated(lines, times)));
  t.same([few.texts, many.texts], [4 * 32_768, 16 * 32_768]);
  staysFlat(t, few, many);

  const rows = await textsAndFailure(join(FIXTURES, 'bomb.parquet'));
  t.match(rows.failure, { code: 'ERR_DATA', message: /a row group unpacks to more than 1073741824 bytes/ });
  const [small, large] = ['none.parquet', 'bomb.parquet'].map((name) => readAlone(join(FIXTURES, name)));
  t.same([small.texts, large.texts], [60, 0]);
  t.match(large.failure, /a row group unpacks to more than/);
  t.ok(large.peak - small.peak < 50e6, 'and is not unpacked to find out');
});

t.test('a JSON array in one line that is too long is told as one, elsewhere it is a long line', async (t) => {
  const long = Buffer.alloc(70 * 2 ** 20, ' ');
  const failureOf = async (name: string, ...pieces: (string | Buffer)[]) =>
    (await textsAndFailure(temporaryFile(gzipSync(Buffer.concat(pieces.map((piece) => Buffer.from(piece)))), name)))
      .failure;
  t.match(await failureOf('a.json.gz', '\ufeff [', long, ']'), { message: /line 1, begins a JSON array.*\n.*jq/ });
  t.match(await failureOf('a.json.gz', '{}', long), { message: /line 1, is too long a line/ });
  t.match(await failureOf('a.txt.gz', '[', long), { message: /line 1, is too long a line/ });
});

t.test('a bomb of zstd: 512 MB in 16 KB', async (t) => {
  // A frame with a window of 1 MiB (RFC 8878): blocks that say "131,072 times this byte", then a last one of 5 bytes.
  const times = (byte: number) =>
    Buffer.from([2 | ((131_072 << 3) & 0xff), (131_072 >> 5) & 0xff, 131_072 >> 13, byte]);
  const [small, large] = [1024, 4096].map((count) => {
    const blocks = new Array(count).fill(times(0x61));
    const last = [Buffer.from([1 | (5 << 3), 0, 0]), Buffer.from('\n1 2\n')];
    const frame = Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x50]), ...blocks, ...last]);
    return temporaryFile(frame, 'bomb.txt.zst');
  });
  const { failure } = await textsAndFailure(large);
  t.match(failure, { code: 'ERR_DATA', message: /line 1, is too long a line/ });
  const [few, many] = [small, large].map(readAlone);
  t.same([few.texts, many.texts], [1, 1], 'it can be left out');
  staysFlat(t, few, many);
});

t.test('whoever stops early leaves no file open, and so does a failure', async (t) => {
  const paths = [
    temporaryFile(TEXT),
    temporaryFile(gzipSync(TEXT), 'a.txt.gz'),
    join(FIXTURES, 'lines-1.txt.zst'),
    join(FIXTURES, 'none.parquet'),
  ];
  const tokenizer = { ...NUMBERS, encode: (text: string) => Array.from(text, (c) => c.length) };
  const before = openFiles();
  for (const path of paths) {
    const loader = new DataLoader(BlockDataset.fromFile(path, { tokenizer, blockSize: 4 }), { batchSize: 1 });
    for await (const _ of loader) break;
    const failing = {
      ...NUMBERS,
      encode: () => {
        throw new Error('no');
      },
    };
    await t.rejects(
      async () => {
        for await (const _ of BlockDataset.fromFile(path, { tokenizer: failing, blockSize: 4 }));
      },
      { message: 'no' },
    );
  }
  // The loader does not wait for its source to close.
  while (openFiles() > before) await new Promise((done) => setTimeout(done, 20));
  t.equal(openFiles(), before);
});

t.test('a source that throws in the middle, after what came before', async (t) => {
  async function* texts() {
    yield '1 2 3';
    throw new Error('the source broke');
  }
  const seen: number[] = [];
  const dataset = BlockDataset.fromTexts(texts, { tokenizer: NUMBERS, blockSize: 1 });
  await t.rejects(
    async () => {
      for await (const { inputIds } of dataset) seen.push(inputIds[0]);
    },
    { message: 'the source broke' },
  );
  t.same(seen, [1, 2]);
});

t.test('places that cannot be used', async (t) => {
  const path = temporaryFile('1\n');
  const folder = folderOf(path);
  await t.rejects(textsOf([path, folder]), { code: 'ERR_IO', message: /a directory/ });
  await t.rejects(textsOf(join(folder, 'gone.txt')), { code: 'ERR_IO', message: /does not exist/ });
  await t.rejects(textsOf(['-', '-']), { code: 'ERR_OPTIONS', message: /only once/ });
  await t.rejects(textsOf('http://'), { code: 'ERR_OPTIONS' });
});
