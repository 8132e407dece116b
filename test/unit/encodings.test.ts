import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { BlockDataset } from '../../dist/data/index.js';
import { ENCODINGS, type Encoding } from '../../dist/data/sources/encoding.js';
import type { KotodamaError } from '../../dist/errors.js';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import { trainTokenizer } from '../../dist/tokenizer/training/index.js';
import { collect, resumeProblem, TOKENIZER_FOLDER, temporaryFile } from './helpers/blocks.js';
import { textsAndFailure, textsOf } from './helpers/sources.js';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** 言葉、カナ ABC in each encoding, and a second line; from the tables of JIS X 0208 and the Unicode standard. */
const SAMPLES: readonly (readonly [Encoding, Buffer])[] = [
  ['utf-8', Buffer.from('言葉、カナ ABC\nあ')],
  ['shift_jis', hex('8cbe 9774 8141 834a 8369 20414243 0a 82a0')],
  ['euc-jp', hex('b8c0 cdd5 a1a2 a5ab a5ca 20414243 0a a4a2')],
  ['utf-16le', hex('fffe 008a 4984 0130 ab30 ca30 2000 4100 4200 4300 0a00 4230')],
  ['utf-16be', hex('feff 8a00 8449 3001 30ab 30ca 0020 0041 0042 0043 000a 3042')],
];

t.test('texts in each encoding, packed or not', async (t) => {
  t.same(
    SAMPLES.map(([encoding]) => encoding),
    ENCODINGS,
  );
  for (const [encoding, bytes] of SAMPLES) {
    t.same(await textsOf(temporaryFile(bytes), { encoding }), ['言葉、カナ ABC', 'あ'], encoding);
    t.same(await textsOf(temporaryFile(gzipSync(bytes), 'a.txt.gz'), { encoding }), ['言葉、カナ ABC', 'あ'], encoding);
  }
  const json = hex(`${Buffer.from('{"text":"').toString('hex')} 8cbe 9774 ${Buffer.from('"}\n').toString('hex')}`);
  t.same(await textsOf(temporaryFile(json, 'a.jsonl'), { encoding: 'shift_jis' }), ['言葉']);
});

t.test(
  'every character of Shift_JIS and EUC-JP that iconv knows, wherever the pieces of the file are cut',
  async (t) => {
    for (const [encoding, iconv] of [
      ['shift_jis', 'CP932'],
      ['euc-jp', 'EUC-JP'],
    ] as const) {
      // JIS X 0208 and the ASCII that is no line end: both tables agree on these but for a few signs.
      const rows = Array.from({ length: 0x9fff - 0x4e00 }, (_, i) => String.fromCharCode(0x4e00 + i)).join('');
      const wanted = [
        rows,
        String.fromCharCode(...Array.from({ length: 0x7f }, (_, i) => i + 1).filter((c) => c !== 10)),
      ];
      const made = spawnSync('iconv', ['-c', '-f', 'UTF-8', '-t', iconv], { input: wanted.join('\n') });
      t.equal(made.error, undefined);
      const back = spawnSync('iconv', ['-f', iconv, '-t', 'UTF-8'], { input: made.stdout, encoding: 'utf8' }).stdout;
      t.ok(back.length > 6000);
      // More than a chunk, so that it is read in pieces.
      const many = Buffer.concat(Array.from({ length: 20 }, () => Buffer.concat([made.stdout, Buffer.from('\n')])));
      const texts = await textsOf(temporaryFile(many), { encoding });
      t.equal(texts.join('\n'), Array.from({ length: 20 }, () => back).join('\n'), encoding);
    }
  },
);

t.test('any text in UTF-16, surrogates among it', async () => {
  const line = fc
    .string({ unit: 'binary' })
    .filter((text) => !/[\n\ufffd\p{Surrogate}]/u.test(text) && !/\r$/.test(text));
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 2, maxLength: 9 }), async (lines) => {
      const bytes = Buffer.from(`\ufeff${lines.join('\n')}\n`, 'utf16le');
      const texts = await textsOf(temporaryFile(bytes), { encoding: 'utf-16le' });
      const swapped = await textsOf(temporaryFile(bytes.swap16()), { encoding: 'utf-16be' });
      return JSON.stringify([texts, swapped]) === JSON.stringify([lines, lines]);
    }),
    { numRuns: 50 },
  );
});

t.test('bytes that are no character: named with their line, or left out', async (t) => {
  const path = temporaryFile(hex('82a0 0a 82a2 fdfd 0a 82a4 0a'));
  const { texts, failure } = await textsAndFailure(path, { encoding: 'shift_jis' });
  t.same(texts, ['あ']);
  t.match(failure, { code: 'ERR_DATA', message: /line 2, is not shift_jis throughout.*other bytes behind 'い'/ });
  const left: KotodamaError[] = [];
  t.same(await textsOf(path, { encoding: 'shift_jis', onBad: (problem) => left.push(problem) }), ['あ', 'う']);
  t.match(left, [/line 2/]);
  const half = await textsAndFailure(temporaryFile(hex('82a0 82')), { encoding: 'shift_jis' });
  t.match(half.failure, { message: /line 1, is not shift_jis/ });
  const wrongOrder = await textsAndFailure(temporaryFile(hex('feff 0041 000a')), { encoding: 'utf-16le' });
  t.match(wrongOrder.failure, { message: /utf-16be/ });
});

t.test('a broken character at the end of a piece of the file', async (t) => {
  // Files are read in pieces of some power of two.
  for (const size of [2 ** 16, 2 ** 17, 2 ** 18]) {
    const path = temporaryFile(Buffer.concat([hex('62 0a'), Buffer.alloc(size - 4, 'a'), hex('8fa4 0a')]));
    const left: KotodamaError[] = [];
    t.same(await textsOf(path, { encoding: 'euc-jp', onBad: (problem) => left.push(problem) }), ['b'], `${size}`);
    t.match(left, [/line 2, is not euc-jp/]);
  }
});

t.test('text that is not UTF-8 is told what it may be', async (t) => {
  const sentence = { shift_jis: hex('82b7 82d7 82c4 82cc 906c 82cd'), 'euc-jp': hex('a4b9 a4d9 a4c6 a4ce bfcd a4cf') };
  for (const [encoding, bytes] of Object.entries(sentence)) {
    const { failure } = await textsAndFailure(temporaryFile(bytes));
    t.match(failure, { code: 'ERR_DATA', hint: new RegExp(`it may be ${encoding}: --encoding ${encoding} `) });
  }
  const { failure } = await textsAndFailure(temporaryFile(SAMPLES[3]?.[1] as Buffer));
  t.match(failure, { hint: /--encoding utf-16le/ });
});

t.test('a pass over another encoding goes on at its place', async (t) => {
  const input = Array.from({ length: 300 }, (_, i) => `言葉 ${i} ${'あ'.repeat(i % 40)}`).join('\n');
  const path = temporaryFile(spawnSync('iconv', ['-f', 'UTF-8', '-t', 'EUC-JP'], { input }).stdout);
  const tokenizer = {
    vocabSize: 65_536,
    bosTokenId: undefined,
    eosTokenId: undefined,
    padTokenId: undefined,
    unkTokenId: undefined,
    encode: (text: string) => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
    decode: () => '',
  };
  const make = () => BlockDataset.fromFile(path, { tokenizer, blockSize: 100, encoding: 'euc-jp' });
  t.equal(await resumeProblem(make, [1, 20]), undefined);
  const utf8 = BlockDataset.fromFile(temporaryFile(input), { tokenizer, blockSize: 100 });
  t.same(await collect(make()), await collect(utf8));
  t.match(await make().identity(), { encoding: 'euc-jp' });
  t.throws(() => BlockDataset.fromFile(path, { tokenizer, blockSize: 9, encoding: 'latin1' as Encoding }), {
    code: 'ERR_OPTIONS',
    message: /encoding: expected .*'shift_jis'.*received 'latin1'/,
  });
});

t.test('lines that keep their ends', async (t) => {
  const options = { keepLinebreaks: true };
  t.same(await textsOf(temporaryFile('a\n\nb\r\nc\rd\r\n\r\ne'), options), ['a\n', '\n', 'b\n', 'c\rd\n', '\n', 'e']);
  t.same(await textsOf(temporaryFile('{"text":"a"}\n', 'a.jsonl'), options), ['a'], 'a record is no line of text');
  const text = Array.from({ length: 40_000 }, (_, i) => `line ${i}`).join('\n');
  t.equal((await textsOf(temporaryFile(text), options)).join(''), text);
  t.equal((await textsOf(temporaryFile(text.replaceAll('\n', '\r\n')), options)).join(''), text);
});

t.test('lines keep their ends only where the tokenizer keeps them', async (t) => {
  const models = fileURLToPath(new URL('./fixtures/sentencepiece/', import.meta.url));
  const unigram = (name: string) => Tokenizer.fromSentencePiece(readFileSync(join(models, `${name}.model`)));
  const options = { blockSize: 2, keepLinebreaks: true };
  const path = temporaryFile('a\nb\n');
  t.throws(() => BlockDataset.fromFile(path, { tokenizer: unigram('unigram-nmt-nfkc'), ...options }), {
    code: 'ERR_OPTIONS',
    message: /keepLinebreaks: expected false, since the tokenizer makes a space or nothing of a line break/,
  });
  for (const tokenizer of [unigram('unigram-identity'), await Tokenizer.fromPretrained(TOKENIZER_FOLDER)]) {
    t.doesNotThrow(() => BlockDataset.fromFile(path, { tokenizer, ...options }));
  }
  const training = { files: path, vocabSize: 300, type: 'unigram', keepLinebreaks: true } as const;
  await t.rejects(trainTokenizer(training), { code: 'ERR_OPTIONS', message: /keepLinebreaks: .*nmt_nfkc/ });
});
