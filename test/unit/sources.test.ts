import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { BlockDataset } from '../../dist/data/index.js';
import { filesMatching } from '../../dist/data/sources/glob.js';
import type { KotodamaError } from '../../dist/errors.js';
import { collect, NUMBERS, resumeProblem, temporaryFile } from './helpers/blocks.js';
import { idsOf, NUMBERS_EOS, textsOf } from './helpers/sources.js';
import { temporaryFolder } from './helpers/temporary-folder.js';

const FIXTURES = fileURLToPath(new URL('./fixtures/sources', import.meta.url));

/** What make_fixtures.py wrote. */
const TABLE = Array.from({ length: 60 }, (_, i) =>
  Array.from({ length: i % 5 }, (_, k) => (i * 7 + k) % 900).join(' '),
);
const TABLES = ['none', 'snappy', 'gzip', 'brotli', 'zstd', 'lz4', 'pages', 'dictionary'];

const jsonl = (texts: string[], field = 'text') =>
  texts.map((text) => `${JSON.stringify({ id: 1, [field]: text })}\n`).join('');

t.test('JSON lines: every text comes back, from its field', async () => {
  const text = fc.string({ unit: 'binary' });
  await fc.assert(
    fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 9 }), fc.string(), async (texts, field) => {
      fc.pre(field !== '' && field !== 'id');
      const path = temporaryFile(jsonl(texts, field), 'a.jsonl');
      return JSON.stringify(await textsOf(path, { textField: field })) === JSON.stringify(texts);
    }),
    { numRuns: 50 },
  );
});

t.test('JSON lines: white space, line ends, byte order mark, the names of files', async (t) => {
  for (const name of ['a.jsonl', 'a.ndjson', 'a.json', 'A.JSONL']) {
    const path = temporaryFile('\ufeff{"text":"a"}\r\n\n \t\r\n  {"x":[1,{"text":"no"}],"text":"b"}  ', name);
    t.same(await textsOf(path), ['a', 'b'], name);
  }
  t.same(await textsOf(temporaryFile('{"text":"a"}\n', 'a.txt')), ['{"text":"a"}']);
  t.same(await textsOf(temporaryFile('{"text":"a"}\n', 'a')), ['{"text":"a"}'], 'other names are text');
  t.same(await textsOf(temporaryFile('{"t":"a"}\n', 'a'), { textField: 't' }), ['a'], 'unless a field is asked for');
  t.same(
    await textsOf(temporaryFile('{"text":"a","text":"b"}\n', 'a.jsonl')),
    ['b'],
    'the last one of two, as JSON.parse',
  );
  t.same(await textsOf(temporaryFile('{"__proto__":"a"}\n', 'a.jsonl'), { textField: '__proto__' }), ['a']);
});

t.test('compressed text and JSON lines, in any pieces', async (t) => {
  const texts = Array.from({ length: 3000 }, (_, i) => `${i} 言葉 ${'x'.repeat(i % 97)}`);
  const text = texts.map((line) => `${line}\n`).join('');
  const [first, second] = [text.slice(0, 5000), text.slice(5000)];
  const cases: [string, Uint8Array][] = [
    ['a.txt.gz', gzipSync(text)],
    ['a.txt.gz', Buffer.concat([gzipSync(first), gzipSync(''), gzipSync(second)])],
    ['a.txt.gz', Buffer.concat([gzipSync(text), Buffer.alloc(512)])],
    ['a.gz', gzipSync(text)],
    ['a.txt', gzipSync(text)],
    ['a', readFileSync(join(FIXTURES, 'lines-1.txt.zst'))],
    ['a.jsonl.gz', gzipSync(jsonl(texts))],
  ];
  for (const [index, [name, bytes]] of cases.entries()) {
    t.ok(JSON.stringify(await textsOf(temporaryFile(bytes, name))) === JSON.stringify(texts), `${index}: ${name}`);
  }
  for (const name of ['lines-1', 'lines-19', 'lines-sized', 'lines-frames']) {
    t.ok(JSON.stringify(await textsOf(join(FIXTURES, `${name}.txt.zst`))) === JSON.stringify(texts), name);
  }
  t.same(await textsOf(join(FIXTURES, 'texts.jsonl.zst')), TABLE);
});

t.test('Parquet: every codec and encoding, any column of strings', async (t) => {
  for (const name of TABLES) t.same(await textsOf(join(FIXTURES, `${name}.parquet`)), TABLE, name);
  const last = await textsOf(join(FIXTURES, 'zstd.parquet'), { textField: '言葉' }, { file: 0, offset: 58 });
  t.same(last, ['言霊58', '言霊59']);
  const nulls = join(FIXTURES, 'nulls.parquet');
  await t.rejects(textsOf(nulls), { code: 'ERR_DATA', message: /row 2, has no text in 'text'.*null/ });
  await t.rejects(textsOf(nulls, { textField: 'bytes' }), { code: 'ERR_DATA', message: /row 2, is not UTF-8/ });
  await t.rejects(textsOf(nulls, { textField: 'list' }), { code: 'ERR_DATA', message: /holds no strings/ });
  await t.rejects(textsOf(nulls, { textField: 'x' }), {
    code: 'ERR_DATA',
    message: /no column 'x', but 'text', 'list'/,
  });
  const bad: KotodamaError[] = [];
  t.same(await textsOf(nulls, { onBad: (problem) => bad.push(problem) }), ['1 2', '3 4', '5']);
  t.equal(bad.length, 2);
});

t.test('patterns give their files in order', async (t) => {
  const folder = t.testdir({});
  const names = ['b.txt', 'a.txt', 'a10.txt', 'c.jsonl', '.hidden.txt', 'x[1].txt', 'sub/d.txt', 'sub/deep/e.txt'];
  mkdirSync(join(folder, 'sub/deep'), { recursive: true });
  for (const name of names) {
    writeFileSync(join(folder, name), name.endsWith('l') ? jsonl([name]) : `${name}\n`);
  }
  const cases: [string, string[]][] = [
    ['*.txt', ['a.txt', 'a10.txt', 'b.txt', 'x[1].txt']],
    ['?.txt', ['a.txt', 'b.txt']],
    ['[bc].*', ['b.txt', 'c.jsonl']],
    ['[!b].txt', ['a.txt']],
    ['{b,a,zz}.txt', ['a.txt', 'b.txt']],
    ['**/*.txt', ['a.txt', 'a10.txt', 'b.txt', 'sub/d.txt', 'sub/deep/e.txt', 'x[1].txt']],
    ['s*/**', ['sub/d.txt', 'sub/deep/e.txt']],
    ['*/d.txt', ['sub/d.txt']],
    ['.*.txt', ['.hidden.txt']],
    ['x[1].txt', ['x[1].txt']],
  ];
  for (const [pattern, expected] of cases) t.same(await textsOf(join(folder, pattern)), expected, pattern);
  t.same(
    await textsOf([join(folder, 'sub/*.txt'), join(folder, 'a.txt')]),
    ['sub/d.txt', 'a.txt'],
    'names keep their order',
  );
  t.throws(() => BlockDataset.fromFile(join(folder, '*.md'), { tokenizer: NUMBERS, blockSize: 1 }), {
    code: 'ERR_IO',
    message: /No file matches .*\*\.md/,
  });
  await t.rejects(textsOf(join(folder, '[z-a].txt')), { code: 'ERR_OPTIONS' });
});

t.test("fsck's folder is read where it is asked for by its name", async (t) => {
  const folder = t.testdir({ sub: { 'a.txt': 'x' }, 'lost+found': { 'c.txt': 'x' } });
  for (const pattern of ['**/*.txt', '*/*.txt']) {
    t.same(filesMatching(join(folder, pattern)), [join(folder, 'sub/a.txt')], pattern);
  }
  t.same(filesMatching(join(folder, 'lost+found/*.txt')), [join(folder, 'lost+found/c.txt')]);
});

t.test('a pattern leaves nothing out without a word', async (t) => {
  const folder = t.testdir({ sub: { 'a.txt': 'x' }, 'b.txt': t.fixture('symlink', 'gone') });
  t.same(filesMatching(join(folder, '{*,*/*}')), [join(folder, 'sub/a.txt')], 'a link to nothing is no file');
  symlinkSync('loop.txt', join(folder, 'loop.txt'));
  for (const pattern of ['*.txt', 'loop.txt/*', '**/*.txt']) {
    t.throws(
      () => filesMatching(join(folder, pattern)),
      { code: 'ERR_IO', message: /loop\.txt could not be/ },
      pattern,
    );
  }
});

t.test('a folder that may not be read is told, as a pattern meets it', async (t) => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'closed'), 0o000);
  const find = () => filesMatching(join(folder, '*', '*.txt'));
  const refusal = { code: 'ERR_IO', message: /closed could not be/ };
  if (process.geteuid?.() !== 0) return t.throws(find, refusal);
  // Root may read everything: nobody does it.
  for (const path of [folder, dirname(folder)]) chmodSync(path, 0o755);
  process.seteuid?.(65_534);
  try {
    t.throws(find, refusal);
  } finally {
    process.seteuid?.(0);
  }
});

t.test('ends of text: after each line, each document, or not at all', async (t) => {
  const lines = [temporaryFile('1 2\n\n3\n'), temporaryFile('4\n5')];
  t.same(await idsOf(lines, {}), [1, 2, 3, 4, 5]);
  t.same(await idsOf(lines, { eos: 'line' }), [1, 2, 998, 998, 3, 998, 4, 998, 5, 998]);
  t.same(await idsOf(lines, { eos: 'document' }), [1, 2, 3, 998, 4, 5, 998]);
  const records = temporaryFile(jsonl(['1 2', '', '3']), 'a.jsonl');
  for (const eos of ['line', 'document'] as const) t.same(await idsOf(records, { eos }), [1, 2, 998, 998, 3, 998]);
  const many = temporaryFile('7\n'.repeat(5000));
  t.equal((await idsOf(many, { eos: 'document' })).filter((id) => id === 998).length, 1, 'one, over many chunks');
  const texts = BlockDataset.fromTexts(['1 2', '3'], { tokenizer: NUMBERS_EOS, blockSize: 2, eos: 'document' });
  t.same(await collect(texts), [
    { inputIds: [1, 2], labels: [2, 998] },
    { inputIds: [998, 3], labels: [3, 998] },
  ]);
  t.throws(() => BlockDataset.fromTexts(['1'], { tokenizer: NUMBERS, blockSize: 1, eos: 'line' }), {
    code: 'ERR_OPTIONS',
    message: /no end-of-text id/,
  });
});

t.test('bad records are named with file and line, or left out and counted', async (t) => {
  const text = temporaryFile(Buffer.concat([Buffer.from('1\n2\n'), Buffer.from([0xff, 0x0a]), Buffer.from('3\n')]));
  const records = temporaryFile(
    ['{"text":"1"}', '{"text":', '[1]', '', '{"t":"2"}', '{"text":3}', '{"text":"\\ud800x"}', '{"text":"4"}'].join(
      '\n',
    ),
    'a.jsonl',
  );
  await t.rejects(textsOf(text), { code: 'ERR_DATA', message: /line 3, is not UTF-8 at byte 4/ });
  await t.rejects(textsOf(text, {}, { file: 0, offset: 2 }), { message: /line 3, is not UTF-8 at byte 4/ });
  await t.rejects(textsOf(records), { code: 'ERR_DATA', message: /a\.jsonl, line 2, is not JSON/ });
  const said: string[] = [];
  const dataset = BlockDataset.fromFile([text, records], {
    tokenizer: NUMBERS,
    blockSize: 1,
    skipBad: ({ message }) => said.push(message.split(', ').slice(1).join(', ')),
  });
  t.same(
    (await collect(dataset)).map(({ labels }) => labels[0]),
    [2, 3, 1, 4],
  );
  const patterns = [
    /^line 3, is not UTF-8 at byte 4/,
    /^line 2, is not JSON/,
    /^line 3, is not a record.*an array/,
    /^line 5, has no field 'text'.*received 't'/,
    /^line 6, has no text in 'text'.*received 3/,
    /^line 7, holds half a character.*\\ud800 alone/,
  ];
  t.equal(said.length, patterns.length);
  for (const [index, pattern] of patterns.entries()) t.match(said[index], pattern);
  t.equal(dataset.skipped, 6);
  await collect(dataset);
  t.equal(dataset.skipped, 6, 'counted for each pass');
  t.equal(dataset.textBytes, 5);
  const mixed = BlockDataset.fromTexts(['1', 2 as unknown as string, '3'], {
    tokenizer: NUMBERS,
    blockSize: 1,
    skipBad: true,
  });
  t.equal((await collect(mixed)).length, 1);
  t.equal(mixed.skipped, 1);
});

t.test('every kind of file continues exactly where it stopped, with ends of text or without', async (t) => {
  const texts = Array.from({ length: 12 }, (_, i) => Array.from({ length: i % 4 }, (_, k) => i * 5 + k).join(' '));
  const lines = texts.map((text) => `${text}\r\n`).join('');
  const gz = Buffer.concat([gzipSync(lines.slice(0, 30)), gzipSync(lines.slice(30))]);
  const kinds: { [name: string]: string[] } = {
    txt: [temporaryFile(lines), temporaryFile(lines.trimEnd())],
    jsonl: [temporaryFile(`\ufeff${jsonl(texts)}`, 'a.jsonl'), temporaryFile(jsonl(texts), 'b.jsonl')],
    gz: [temporaryFile(gz, 'a.txt.gz'), temporaryFile(gzipSync(jsonl(texts)), 'a.jsonl.gz')],
    zst: [join(FIXTURES, 'texts.jsonl.zst')],
    parquet: [join(FIXTURES, 'zstd.parquet')],
    mixed: [temporaryFile(lines), join(FIXTURES, 'nulls.parquet'), temporaryFile(jsonl(texts), 'b.jsonl')],
  };
  for (const [name, paths] of Object.entries(kinds)) {
    const parquet = name === 'parquet' || name === 'mixed';
    for (const eos of parquet ? (['document'] as const) : (['none', 'line', 'document'] as const)) {
      // A Parquet thread takes long to start, so that not every position is worth one.
      const stops = parquet ? [1, 13] : undefined;
      const make = () =>
        BlockDataset.fromFile(paths, { tokenizer: NUMBERS_EOS, blockSize: 3, eos, skipBad: true, dropLast: false });
      t.equal(await resumeProblem(make, stops), undefined, `${name}, ${eos}`);
    }
  }
});

/** Runs a module of its own with something on its standard input; gives what it writes. */
async function withInput(input: Uint8Array | string, code: string): Promise<string> {
  const folder = new URL('../../dist/data/sources/', import.meta.url).href;
  const script = `import { FileSource } from '${folder}file-source.js';
    import { contentOf, visitTexts } from '${folder}read-chunk.js';
    const texts = async (source, offset = 0) => {
      const all = [];
      const utf8 = (bytes, start, end) => all.push(Buffer.from(bytes.subarray(start, end)).toString());
      const text = (content) => all.push(content);
      for await (const chunk of source.read({ file: 0, offset })) visitTexts(contentOf(chunk), { utf8, text }, false);
      return all;
    };
    ${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: process.env.PATH },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  // Who stops early closes the pipe.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  return text(child.stdout);
}

t.test('the standard input: once, from any place, packed or not', async (t) => {
  const all = 'console.log((await texts(new FileSource(["-"]))).join())';
  t.equal(await withInput('a\nb\n', all), 'a,b\n');
  t.equal(await withInput(gzipSync('a\nb\n'), all), 'a,b\n');
  t.equal(await withInput('{"x":"a"}\n', all.replace('["-"]', '["-"], { textField: "x" }')), 'a\n');
  t.equal(await withInput('a\nb\n', 'console.log(await texts(new FileSource(["-"]), 2))'), "[ 'b' ]\n");
  const twice = `const source = new FileSource(['-']); await texts(source);
    await texts(source).catch((error) => console.log(error.code, error.message));`;
  t.match(await withInput('a\n', twice), /ERR_DATA .*only once.*\n.*save it to a file/);
  const stop = `for await (const _ of new FileSource(['-']).read({ file: 0, offset: 0 })) break; console.log('stopped');`;
  t.equal(await withInput('a\n'.repeat(1_000_000), stop), 'stopped\n');
});

t.test('a saved state that meets other files', async (t) => {
  const options = { tokenizer: NUMBERS, blockSize: 1 };
  const [a, b] = [temporaryFile('1 2 3\n', 'a.txt'), temporaryFile('1 2 3\n', 'b.txt')];
  const dataset = BlockDataset.fromFile(a, options);
  for await (const _ of dataset) break;
  for (const other of [b, [a, b]]) {
    t.throws(() => BlockDataset.fromFile(other, options).restore(dataset.state()), { code: 'ERR_CHECKPOINT' });
  }
  BlockDataset.fromFile(temporaryFile('1 2 3\n', 'a.txt'), options).restore(dataset.state());
  t.throws(
    () =>
      BlockDataset.fromFile([a, b], options).restore({
        kind: 'files',
        at: 'c.txt (3 of 3)',
        file: 2,
        offset: 0,
        skip: 0,
      }),
    {
      code: 'ERR_CHECKPOINT',
      message: /expected the place c\.txt \(3 of 3\), received file 3 of 2\n/,
    },
  );
  const state = { kind: 'files', at: 'c.txt.gz (1 of 1)', file: 0, offset: 3, skip: 0 };
  const moved = BlockDataset.fromFile(temporaryFile(gzipSync('1 2 3\n4\n'), 'c.txt.gz'), options);
  moved.restore(state);
  await t.rejects(collect(moved), { code: 'ERR_CHECKPOINT', message: /no line begins at byte 3/ });
  moved.restore({ ...state, offset: 30 });
  await t.rejects(collect(moved), { code: 'ERR_CHECKPOINT' });
});
