import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { FileSource } from '../../dist/data/sources/file-source.js';
import { IterableSource } from '../../dist/data/sources/iterable-source.js';
import type { TextPosition, TextSource } from '../../dist/data/sources/text-source.js';
import { firstBadByte } from '../../dist/data/sources/utf8.js';
import { folderOf, temporaryFile } from './helpers/blocks.js';
import { chunksOf } from './helpers/sources.js';

const START = { file: 0, offset: 0 };

async function texts(source: TextSource, from: TextPosition = START): Promise<string[]> {
  const result = [];
  for await (const chunk of chunksOf(source, from)) result.push(...chunk.texts.map(({ text }) => text));
  return result;
}

async function linesOf(content: string | Uint8Array): Promise<string[]> {
  return texts(new FileSource([temporaryFile(content)]));
}

t.test('lines end with \\n or \\r\\n, and a last one need not', async (t) => {
  t.same(await linesOf('a\nb\r\n\n c \nd'), ['a', 'b', '', ' c ', 'd']);
  t.same(await linesOf('a\n'), ['a']);
  t.same(await linesOf('\n\n'), ['', '']);
  t.same(await linesOf('a\rb\n'), ['a\rb'], 'a lone carriage return is text');
  t.same(await linesOf('a\u2028b\u0085c\n'), ['a\u2028b\u0085c'], 'so are other separators');
  t.same(await linesOf('a\r'), ['a\r'], 'and one at the very end, without its newline');
  t.same(await linesOf('\ufeffa\n\ufeffb\n'), ['\ufeffa', '\ufeffb'], 'byte order marks are kept, as Python does');
  t.same(await linesOf('a\0b\n'), ['a\0b']);
});

t.test('several files come in order, and each ends its last line', async (t) => {
  const source = new FileSource([temporaryFile('a\nb'), temporaryFile('c\n'), temporaryFile('d')]);
  t.same(await texts(source), ['a', 'b', 'c', 'd']);
  t.same(await texts(source), ['a', 'b', 'c', 'd'], 'and again');
});

t.test('a line of 10 MB, with characters across all read boundaries', async (t) => {
  const long = '言葉a'.repeat(1_500_000);
  const [first, second, third, ...more] = await linesOf(`x\n${long}\r\ny\n`);
  t.equal(first, 'x');
  t.ok(second === long);
  t.equal(third, 'y');
  t.equal(more.length, 0);
});

t.test('any text comes back line by line, from every line on', async () => {
  const line = fc.string({ unit: 'binary' }).map((s) => s.replaceAll(/[\r\n]/g, ''));
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 8 }), fc.boolean(), async (lines, carriage) => {
      const path = temporaryFile(lines.map((text) => text + (carriage ? '\r\n' : '\n')).join(''));
      const placed: { text: string; offset: number; end: number }[] = [];
      for await (const { texts, end } of chunksOf(new FileSource([path]))) {
        placed.push(...texts.map(({ text, offset }, i) => ({ text, offset, end: texts[i + 1]?.offset ?? end })));
      }
      if (JSON.stringify(placed.map(({ text }) => text)) !== JSON.stringify(lines)) return false;
      for (const [index, { offset, end }] of placed.entries()) {
        if (placed[index + 1] !== undefined && placed[index + 1].offset !== end) return false;
        const rest = await texts(new FileSource([path]), { file: 0, offset });
        if (JSON.stringify(rest) !== JSON.stringify(lines.slice(index))) return false;
      }
      return true;
    }),
    { numRuns: 50 },
  );
});

t.test('many lines make several chunks, and so do many empty ones', async (t) => {
  const sizes = [];
  for await (const { texts } of chunksOf(new FileSource([temporaryFile('\n'.repeat(500_000))])))
    sizes.push(texts.length);
  t.equal(
    sizes.reduce((a, b) => a + b),
    500_000,
  );
  t.ok(sizes.length > 3 && Math.max(...sizes) < 150_000);
});

t.test('bad bytes: the file and the offset are named, after the lines before', async (t) => {
  const cases: [number[], number, string][] = [
    [[0x61, 0x0a, 0x62, 0xff, 0x0a], 3, 'never a byte of UTF-8'],
    [[0x0a, 0xc0, 0x80, 0x0a], 1, 'overlong'],
    [[0x61, 0xed, 0xa0, 0x80], 1, 'a surrogate'],
    [[0xf4, 0x90, 0x80, 0x80], 0, 'above U+10FFFF'],
    [[0x61, 0xe3, 0x81, 0x0a], 1, 'a character cut off by the end of its line'],
    [[0x61, 0x0a, 0xe3, 0x81], 2, 'a character cut off by the end of the file'],
  ];
  for (const [bytes, offset, what] of cases) {
    const path = temporaryFile(Uint8Array.from(bytes));
    const failure = await texts(new FileSource([path])).catch((error) => error);
    t.equal(failure.code, 'ERR_DATA', what);
    t.match(failure.message.split(path)[1], new RegExp(`^.* byte ${offset}\\b`), what);
  }
  const seen: string[] = [];
  const path = temporaryFile(Buffer.concat([Buffer.from('one\ntwo\n'), Buffer.from([0x80])]));
  await t.rejects(async () => {
    for await (const { texts } of chunksOf(new FileSource([path]))) seen.push(...texts.map(({ text }) => text));
  });
  t.same(seen, ['one', 'two']);
});

t.test('the first bad byte is where the decoder of the platform gives up', async () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 6 }),
    fc.string({ unit: 'binary' }).map((s) => Buffer.from(s)),
  );
  const valid = (bytes: Uint8Array) => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true });
      return true;
    } catch {
      return false;
    }
  };
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 5 }), (pieces) => {
      const bytes = Buffer.concat(pieces);
      const bad = firstBadByte(bytes);
      if (bad < 0) return bytes.equals(Buffer.from(bytes.toString('utf8')));
      // All before it is well-formed; from it on nothing is, however many bytes one takes.
      const tail = bytes.subarray(bad, bad + 4);
      return (
        bytes.subarray(0, bad).equals(Buffer.from(bytes.subarray(0, bad).toString('utf8'))) &&
        (!valid(tail) || tail.toString('utf8').includes('\ufffd'))
      );
    }),
    { numRuns: 500 },
  );
});

t.test('files that cannot be used', async (t) => {
  const path = temporaryFile('a');
  t.throws(() => new FileSource([`${path}-missing`]), { code: 'ERR_IO', message: /missing.*does not exist/s });
  t.throws(() => new FileSource([path, folderOf(path)]), { code: 'ERR_IO', message: /a directory/ });
  t.throws(() => new FileSource([temporaryFile('')]), { code: 'ERR_DATA', message: /empty/ });
  t.throws(() => new FileSource(['/dev/null']), { code: 'ERR_IO', message: /pipe or device/ });
});

t.test('a saved position in a file that has changed', async (t) => {
  const path = temporaryFile('one\ntwo\n');
  const source = new FileSource([path]);
  t.same(await texts(source, { file: 0, offset: 4 }), ['two']);
  t.same(await texts(source, { file: 0, offset: 8 }), [], 'the end is a place too');
  await t.rejects(texts(source, { file: 0, offset: 5 }), { code: 'ERR_CHECKPOINT' });
  await t.rejects(texts(source, { file: 1, offset: 0 }), { code: 'ERR_CHECKPOINT' });
  writeFileSync(path, 'o\n');
  await t.rejects(texts(source, { file: 0, offset: 4 }), { code: 'ERR_CHECKPOINT' });
});

t.test('what comes before a saved position is not read again', async (t) => {
  const path = temporaryFile('one\ntwo\nthree\n');
  const source = new FileSource([path]);
  writeFileSync(path, Buffer.from('\xff\xff\xff\ntwo\nthree\n', 'latin1'));
  await t.rejects(texts(source, { file: 0, offset: 0 }), { code: 'ERR_DATA' });
  t.same(await texts(source, { file: 0, offset: 8 }), ['three'], 'or it would not be UTF-8');
});

t.test('texts from memory: arrays, generators, functions', async (t) => {
  function* some() {
    yield* ['a', 'b\nc', ''];
  }
  async function* later() {
    yield* some();
  }
  const all = ['a', 'b\nc', ''];
  for (const make of [() => [...some()], () => some, () => later, () => new Set(some())]) {
    const source = new IterableSource(make());
    t.same(await texts(source), all);
    t.same(await texts(source), all, 'again');
    t.same(await texts(source, { file: 0, offset: 1 }), all.slice(1));
    t.same(await texts(source, { file: 0, offset: 3 }), []);
  }
  for (const generator of [some(), later()]) {
    const source = new IterableSource(generator);
    t.same(await texts(source), all);
    await t.rejects(texts(source), { code: 'ERR_DATA', message: /only once/ });
  }
});

t.test('texts from memory that cannot be used', async (t) => {
  for (const bad of ['a string', 3, null, {}] as unknown as string[][]) {
    t.throws(() => new IterableSource(bad), { code: 'ERR_OPTIONS' });
  }
  const mixed = new IterableSource(['a', 3 as unknown as string]);
  await t.rejects(texts(mixed), { code: 'ERR_DATA', message: /Text 1 is not a string/ });
  await t.rejects(texts(new IterableSource(['a']), { file: 0, offset: 2 }), { code: 'ERR_CHECKPOINT' });
});

t.test('streams and lines of readline, which do not show that they can be read only once', async (t) => {
  const stream = () => Readable.from(['a\n', 'b\n']);
  for (const [name, once] of [
    ['readline', createInterface({ input: stream() })],
    ['Readable', stream()],
    ['ReadableStream', Readable.toWeb(stream()) as unknown as AsyncIterable<string>],
  ] as const) {
    const source = new IterableSource(once);
    t.equal((await texts(source)).length, 2, name);
    await t.rejects(texts(source), { code: 'ERR_DATA', message: /only once, and were\n.*function/ }, name);
    await t.rejects(texts(source, { file: 0, offset: 1 }), { code: 'ERR_DATA', message: /only once/ }, name);
  }
  const anew = new IterableSource(stream);
  t.same([(await texts(anew)).length, (await texts(anew)).length], [2, 2], 'a function gives them anew');
  const empty = new IterableSource([]);
  t.same([await texts(empty), await texts(empty)], [[], []], 'no texts at all are no sign of it');
});
