import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { measureShuffle, measureTexts } from '../../dist/cli/data-statistics.js';
import { bars, printable, shades, shorten } from '../../dist/cli/text-picture.js';
import { BlockDataset } from '../../dist/data/block-dataset.js';
import { Tokenizer, type TokenizerModel } from '../../dist/tokenizer/index.js';
import { kotodama, TOKENIZER, workplace } from './program.js';

/** A token for each character; what is not ASCII is unknown, 0. */
const characters: TokenizerModel = {
  vocabSize: 128,
  bosTokenId: undefined,
  eosTokenId: undefined,
  padTokenId: undefined,
  unkTokenId: 0,
  encode: (text) => Array.from(text, (character) => (character > '\x7f' ? 0 : character.charCodeAt(0))),
  decode: (ids) => Array.from(ids, (id) => (id === 0 ? '?' : String.fromCharCode(id))).join(''),
};

t.test('what the command shows, against the tokenizer itself', async (t) => {
  const cwd = workplace(t);
  const inspect = ['inspect-data', '--train', 'train.txt', '--tokenizer', TOKENIZER, '--block-size', '64'];
  const [text, json] = await Promise.all([kotodama(inspect, { cwd }), kotodama([...inspect, '--json'], { cwd })]);
  t.equal(text.code, 0, text.stderr);
  t.equal(json.code, 0, json.stderr);
  const lines = readFileSync(join(cwd, 'train.txt'), 'utf8').trimEnd().split('\n');
  const tokenizer = await Tokenizer.fromPretrained(TOKENIZER);
  const lengths = lines.map((line) => tokenizer.encode(line).length);
  const ids = lines.flatMap((line) => tokenizer.encode(line));
  const blocks = Math.floor((ids.length - 1) / 64);
  const result = JSON.parse(json.stdout);
  t.match(result, {
    complete: true,
    texts: lines.length,
    bytes: Buffer.byteLength(lines.join('')),
    tokens: ids.length,
    vocabSize: 2048,
    usedIds: new Set(ids).size,
    longestText: Math.max(...lengths),
    blockSize: 64,
    blocks,
    leftoverTokens: ids.length - 64 * blocks,
    firstBlocks: [0, 1, 2].map((index) => tokenizer.decode(ids.slice(64 * index, 64 * index + 64))),
    unknownTokens: null,
    shuffle: { bufferSize: 100, blocks },
  });
  for (const { from, to, texts } of result.lengths) {
    t.equal(texts, lengths.filter((length) => length >= from && length <= to).length, `${from} to ${to} tokens`);
  }
  t.equal(result.lengths.at(-1).to >= result.longestText, true);

  t.match(text.stdout, `block 1, 64 tokens:\n  ${result.firstBlocks[0].slice(0, 40)}`);
  t.match(text.stdout, /^measured +all of the text$/m);
  t.match(text.stdout, new RegExp(`^texts +${lines.length}, `, 'm'));
  t.match(text.stdout, new RegExp(`^blocks +${blocks} of 64 tokens$`, 'm'));
  t.match(text.stdout, new RegExp(`^dropped +${result.leftoverTokens} tokens at the end`, 'm'));
  t.match(text.stdout, /shuffling with a buffer of 100 moves a block by \d/);
  t.ok(text.stdout.split('\n').every((line) => !line.startsWith('  |') || /^ {2}\|[ .:+#]+\|$/.test(line)));
});

t.test('texts that cannot fill a block, or are no texts', async (t) => {
  const cwd = t.testdir({
    one: 'a\n',
    short: 'a b',
    escapes: `\x1b[31mred\x07${'x'.repeat(99)}\u202e\n`,
    empty: '',
    'records.jsonl': '{"content":"a b"}\n{}\n{"content":"c d"}\n',
    'tokens.bin': 'tokens',
  });
  writeFileSync(join(cwd, 'bad'), Buffer.from([0x61, 0xff, 0x0a]));
  const run = (file: string, ...more: string[]) =>
    kotodama(['inspect-data', '--train', file, '--tokenizer', TOKENIZER, ...more], { cwd });
  const [one, short, escapes, empty, bad, missing, nothing, records, binary] = await Promise.all([
    run('one'),
    run('short'),
    run('escapes', '--block-size', '16', '--shuffle-buffer', '0'),
    run('empty'),
    run('bad'),
    run('missing'),
    kotodama(['inspect-data'], { cwd }),
    run('records.jsonl', '--text-field', 'content', '--eos', 'line', '--skip-bad', '--block-size', '8', '--json'),
    run('tokens.bin'),
  ]);
  t.equal(short.code, 0, short.stderr);
  t.match(short.stdout, /^blocks +none: one needs 1025 tokens, and there are 2$/m);
  t.equal(escapes.code, 0, escapes.stderr);
  t.match(one, { code: 1, stderr: /^error ERR_DATA: The text is too short for one block: .* received 1 token\n/ });
  t.match(escapes.stdout, /\\u\{1b\}\[31mred\\u\{7\}xxx/);
  t.notMatch(escapes.stdout, /[^\P{Cc}\n]|\p{Cf}/u, 'nothing that a terminal would obey');
  t.match(escapes.stdout, /no shuffling moves a block by 0.0 places on average, at most 0 early and 0 late/);
  t.match(empty, { code: 1, stderr: /^error ERR_DATA: .*empty/ });
  t.match(bad, { code: 1, stderr: /^error ERR_DATA: .*bad.* is not UTF-8 at byte 1/ });
  t.match(missing, { code: 2, stderr: /^error ERR_OPTIONS: .*--train: expected a file that exists/ });
  t.equal(records.code, 0, records.stderr);
  t.match(records.stderr, /bad records left out: 1\n/);
  t.match(
    JSON.parse(records.stdout),
    { texts: 2, bytes: 6, tokens: 6, meanText: 2, blocks: 0, leftoverTokens: 6 },
    '4 and 2 ends',
  );
  t.match(binary, { code: 2, stderr: /--train: expected texts, received 'tokens.bin'.*made of/s });
  t.match(nothing, { code: 2, stderr: /--train: expected FILE.*\n.*--tokenizer: expected DIR/ });
});

t.test('counting, with a limit', async (t) => {
  const lines = ['', 'a', 'あb', 'x'.repeat(7), 'y'.repeat(8), '', 'ab'];
  const path = join(t.testdir({ text: `${lines.join('\n')}\n` }), 'text');
  const open = (paths: string[], blockSize: number) => (tokenizer: TokenizerModel) =>
    BlockDataset.fromFile(paths, { tokenizer, blockSize, dropLast: false });
  const all = await measureTexts(open([path, path], 5), characters, { limit: 0, shown: 2 });
  t.same(all, {
    complete: true,
    texts: 14,
    bytes: 44,
    tokens: 40,
    unknownTokens: 2,
    vocabSize: 128,
    usedIds: 5,
    meanText: 40 / 14,
    longestText: 8,
    lengths: [
      { from: 0, to: 0, texts: 4 },
      { from: 1, to: 1, texts: 2 },
      { from: 2, to: 3, texts: 4 },
      { from: 4, to: 7, texts: 2 },
      { from: 8, to: 15, texts: 2 },
    ],
    blocks: 7,
    leftoverTokens: 5,
    firstBlocks: ['a?bxx', 'xxxxx'],
  });
  writeFileSync(path, `${'z'.repeat(999)}\n`.repeat(1000));
  const some = await measureTexts(open([path], 64), characters, { limit: 100_000, shown: 0 });
  t.match(some, { complete: false, leftoverTokens: null });
  t.ok(some.bytes >= 100_000 && some.bytes < 200_000, `${some.bytes} bytes were measured`);
  t.same(some.firstBlocks, []);
});

t.test('ends of texts count, as they do in a token file', async (t) => {
  const lines = ['', 'a', 'あb', 'xyz'];
  const path = join(t.testdir({ text: `${lines.join('\n')}\n` }), 'text');
  const tokenizer = { ...characters, eosTokenId: 1 };
  const sizes = { blockSize: 3, dropLast: false };
  for (const [eos, ends] of [
    ['none', 0],
    ['line', 8],
    ['document', 2],
  ] as const) {
    const open = (counting: TokenizerModel) =>
      BlockDataset.fromFile([path, path], { ...sizes, tokenizer: counting, eos });
    const ids: number[] = [];
    for await (const piece of open(tokenizer).tokens()) ids.push(...piece.ids);
    t.equal(ids.length, 12 + ends);
    let blocks = 0;
    for await (const { labels } of open(tokenizer)) if (!labels.includes(-100)) blocks++;
    const found = await measureTexts(open, tokenizer, { limit: 0, shown: 9 });
    t.match(found, { texts: 8, bytes: 16, tokens: ids.length, usedIds: new Set(ids).size, blocks }, eos);
    t.match(found, { unknownTokens: 2, meanText: 1.5, longestText: 3, leftoverTokens: ids.length - 3 * blocks }, eos);
    t.equal(found.firstBlocks.join(''), tokenizer.decode(ids.slice(0, 3 * blocks)), eos);
    const same = { ...tokenizer, eosTokenId: 0 };
    const ended = await measureTexts(
      (counting) => BlockDataset.fromFile(path, { ...sizes, tokenizer: counting, eos }),
      same,
      { limit: 0, shown: 0 },
    );
    t.equal(ended.unknownTokens, null, 'an end of text is no unknown token');
  }
});

t.test('the picture of shuffling', async (t) => {
  const sizes = {
    blocks: fc.integer({ min: 0, max: 400 }),
    bufferSize: fc.integer({ min: 0, max: 450 }),
    seed: fc.nat(),
  };
  await fc.assert(
    fc.asyncProperty(fc.record(sizes), async ({ blocks, bufferSize, seed }) => {
      const size = { rows: 7, columns: 11 };
      const { grid, mostEarly, mostLate, meanDistance } = await measureShuffle({ blocks, bufferSize, seed }, size);
      const parts = (count: number) =>
        Array.from({ length: blocks }, (_, index) => Math.floor((index * count) / blocks)).reduce(
          (sums, part) => sums.with(part, sums[part] + 1),
          new Array<number>(count).fill(0),
        );
      // Every place is taken once, and every block is somewhere.
      const [rows, columns] = [Math.min(7, blocks), Math.min(11, blocks)];
      const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
      t.strictSame(grid.map(sum), parts(rows));
      t.strictSame(
        Array.from({ length: columns }, (_, column) => sum(grid.map((row) => row[column]))),
        parts(columns),
      );
      const early = bufferSize === 0 ? 0 : bufferSize - 1;
      return mostEarly <= early && meanDistance <= Math.max(mostEarly, mostLate);
    }),
    { numRuns: 40 },
  );
  const still = await measureShuffle({ blocks: 50, bufferSize: 1, seed: 0 }, { rows: 2, columns: 2 });
  t.same(still.grid, [
    [25, 0],
    [0, 25],
  ]);
  t.match(still, { meanDistance: 0, mostEarly: 0, mostLate: 0 });
});

t.test('pictures and text for terminals', async (t) => {
  t.same(bars([0, 1, 50, 100], 10), ['', '#', '#####', '##########']);
  t.same(bars([0], 10), ['']);
  t.same(
    shades([
      [0, 1],
      [2, 4],
    ]),
    ['+--+', '| .|', '|:#|', '+--+'],
  );
  const family = '👨\u200d👩\u200d👧';
  t.equal(
    printable(`a\n\t\r\0\x9b\u2028\ud800${family}言葉`),
    `a\\n\\t\\r\\u{0}\\u{9b}\\u{2028}\\u{d800}${family}言葉`,
  );
  t.equal(shorten('abcdef', 3, 3), 'abcdef');
  t.equal(shorten('abc👨defg', 4, 2), 'abc👨 ... fg');
});
