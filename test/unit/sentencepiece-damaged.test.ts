import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import t from 'tap';
import { KotodamaError } from '../../dist/errors.js';
import { loadSentencePiece, SentencePieceTokenizer } from '../../dist/tokenizer/sentencepiece/index.js';
import { printedSeed } from './helpers/seed.js';

const FOLDER = new URL('fixtures/sentencepiece/', import.meta.url);
const seed = printedSeed(t);

// A writer of the protocol buffer wire format, to build models that no trainer would write.
const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
const bytes = (field: number, content: Iterable<number>): number[] => {
  const list = [...content];
  return [...varint(field * 8 + 2), ...varint(list.length), ...list];
};
const integer = (field: number, value: number): number[] => [...varint(field * 8), ...varint(value)];
const text = (field: number, content: string): number[] => bytes(field, Buffer.from(content));
const float = (field: number, value: number): number[] => [
  field * 8 + 5,
  ...new Uint8Array(Float32Array.of(value).buffer),
];
const piece = (content: string, type = 1, score = -1): number[] =>
  bytes(1, [...text(1, content), ...float(2, score), ...integer(3, type)]);
const UNK = piece('<unk>', 2);
const charsmap = (data: Iterable<number>): number[] => bytes(3, bytes(2, data));
const model = (...parts: number[][]): SentencePieceTokenizer =>
  new SentencePieceTokenizer(Uint8Array.from(parts.flat()));

/** A Darts-clone array with one rule: every character whose first byte is 0x61 becomes `replacement`. */
function oneRule(replacement: string): number[] {
  const units = new Uint32Array(256);
  units[0] = 1 << 10; // root, children at 1 XOR label
  units[1 ^ 0x61] = 0x61 | 0x100 | ((1 ^ 0x61 ^ 2) << 10); // label 'a', leaf at 2
  units[2] = 0x80000000; // value 0
  return [
    ...new Uint8Array(Uint32Array.of(1024).buffer),
    ...new Uint8Array(units.buffer),
    ...Buffer.from(`${replacement}\0`),
  ];
}

t.test('the smallest models', async (t) => {
  t.same(model(UNK, piece('a')).encode('ab'), [0, 1, 0], 'by default a dummy space comes first, which is unknown here');
  const plain = bytes(3, integer(3, 0));
  t.same(model(UNK, piece('a'), plain).encode('ab'), [1, 0]);
  t.same(
    model(UNK, piece('a'), piece('ab'), plain, bytes(99, [1, 2, 3])).encode('ab'),
    [2],
    'unknown fields are passed over',
  );
  t.same(model(UNK, piece('b'), plain, charsmap(oneRule('b'))).encode('aab'), [1, 1, 1]);
  t.same(model(UNK, piece('b'), plain, charsmap(oneRule(''))).encode('aab'), [1], 'a rule may delete');
});

t.test('a word that is written like a byte piece is that piece', async (t) => {
  const bytePieces = Array.from({ length: 256 }, (_, byte) =>
    piece(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, 6, 0),
  );
  const words = model(
    UNK,
    ...bytePieces,
    piece('a'),
    bytes(2, [...integer(3, 3), ...integer(35, 1)]),
    bytes(3, integer(3, 0)),
  );
  t.same(words.encode('<0x41>'), [1 + 0x41], 'as spm_encode has it');
  t.same(words.encode('a'), [257]);
  t.same(words.encode('b'), [1 + 0x62]);
});

t.test('what SentencePiece refuses, and what no file may hold', async (t) => {
  const byteFallback = bytes(2, integer(35, 1));
  const cases: [string, RegExp, () => unknown][] = [
    ['nothing', /unknown pieces/, () => model()],
    ['no unknown piece', /unknown pieces/, () => model(piece('a'))],
    ['two unknown pieces', /unknown pieces/, () => model(UNK, piece('<unk2>', 2), piece('a'))],
    ['nothing but reserved pieces', /no piece/, () => model(UNK, piece('<s>', 3))],
    ['empty piece', /piece 1 is empty/, () => model(UNK, piece(''))],
    ['piece without text', /piece 1 is empty/, () => model(UNK, bytes(1, float(2, 1)))],
    ['NUL in a piece', /NUL/, () => model(UNK, piece('a\0b'))],
    ['long piece', /too long/, () => model(UNK, piece('a'.repeat(8000)))],
    ['piece twice', /defined twice/, () => model(UNK, piece('a'), piece('a', 4))],
    ['control piece twice', /defined twice/, () => model(UNK, piece('a'), piece('<s>', 3), piece('<s>', 3))],
    ['type 0', /unknown type/, () => model(UNK, piece('a', 0))],
    ['type 7', /unknown type/, () => model(UNK, piece('a', 7))],
    ['score NaN', /not a number/, () => model(UNK, piece('a', 1, Number.NaN))],
    ['byte piece without byte_fallback', /byte_fallback is off/, () => model(UNK, piece('a'), piece('<0x41>', 6))],
    ['byte piece with a wrong name', /wrong name/, () => model(byteFallback, UNK, piece('a'), piece('<0x4a>', 6))],
    ['too few byte pieces', /256 byte pieces/, () => model(byteFallback, UNK, piece('a'), piece('<0x41>', 6))],
    ['model type 9', /model type/, () => model(UNK, piece('a'), bytes(2, integer(3, 9)))],
    ['text that is not UTF-8', /not UTF-8/, () => model(UNK, bytes(1, bytes(1, [0xff, 0x41])))],
    ['varint that does not end', /damaged/, () => model(UNK, [0x80])],
    ['varint of 11 bytes', /at most 10/, () => model(UNK, [0x98, 0x06, ...new Array(10).fill(0x80), 1])],
    ['length beyond the end', /more bytes/, () => model(UNK, [0x0a, 5, 1])],
    ['absurd length', /more bytes/, () => model(UNK, [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])],
    ['field 0', /field number/, () => model(UNK, [0x00, 0x00])],
    ['group', /wire type/, () => model(UNK, [0x7b, 0x7c])],
    ['pieces as numbers', /length-delimited/, () => model(UNK, [0x08, 1])],
    ['score as a number', /32-bit/, () => model(UNK, bytes(1, [...text(1, 'a'), ...integer(2, 1)]))],
    ['type as text', /varint/, () => model(UNK, bytes(1, [...text(1, 'a'), ...text(3, 'x')]))],
    ['charsmap of 3 bytes', /precompiled_charsmap/, () => model(UNK, piece('a'), charsmap([1, 0, 0]))],
    [
      'charsmap with a trie of 0 bytes',
      /precompiled_charsmap/,
      () => model(UNK, piece('a'), charsmap([0, 0, 0, 0, 0])),
    ],
    [
      'charsmap with a trie of 5 bytes',
      /precompiled_charsmap/,
      () => model(UNK, piece('a'), charsmap([5, 0, 0, 0, 1, 2, 3, 4, 5, 6])),
    ],
    [
      'charsmap without its trie',
      /precompiled_charsmap/,
      () => model(UNK, piece('a'), charsmap([0, 4, 0, 0, 1, 2, 3, 4])),
    ],
    [
      'rule with a giant result',
      /too long/,
      () => model(UNK, piece('b'), charsmap(oneRule('b'.repeat(5000)))).encode('a'),
    ],
  ];
  for (const [name, message, build] of cases)
    t.throws(build, { name: 'KotodamaError', code: 'ERR_TOKENIZER', message }, name);
});

t.test('a piece may lean on long chains of unused pieces', async (t) => {
  const chain = Array.from({ length: 1500 }, (_, i) => piece('a'.repeat(i + 2), 5, -i));
  const tokenizer = model(UNK, piece('a'), ...chain, bytes(2, integer(3, 2)), bytes(3, integer(3, 0)));
  t.same(tokenizer.encode('a'.repeat(1200)), new Array(1200).fill(1));
});

t.test('a trie that goes in circles', async (t) => {
  // Every unit has label 'a' and leads back to itself; none is a leaf.
  const units = new Uint32Array(256).fill(0x61 | (0x61 << 10));
  const circle = [...new Uint8Array(Uint32Array.of(1024).buffer), ...new Uint8Array(units.buffer), 0];
  const tokenizer = model(UNK, piece('a'), bytes(3, integer(3, 0)), charsmap(circle));
  t.same(tokenizer.encode('a'.repeat(100_000)), new Array(100_000).fill(1));
});

const TEXT = `Ａｱ\u309bガか\u3099 ﷺ  ㈱\u200d\u{1f468}\u200d\u{1f469} e\u0301 <br>する\0the 権利 nnnnn ${'すべての人間は、\u3000自由であり'.repeat(5)}`;

/** One way to spoil a file: at a place, with a value whose meaning depends on the kind. */
const damage = fc.record({
  kind: fc.constantFrom('flip', 'flip', 'set', 'fill', 'move', 'cut'),
  place: fc.noBias(fc.nat()),
  value: fc.integer({ min: 0, max: 255 }),
});

function spoil(data: Uint8Array, damages: { kind: string; place: number; value: number }[]): Uint8Array {
  let result = Uint8Array.from(data);
  for (const { kind, place, value } of damages) {
    const at = place % Math.max(1, result.length);
    if (kind === 'flip') result[at]! ^= 1 << (value % 8);
    else if (kind === 'set') result[at] = value;
    else if (kind === 'fill') result.fill([0, 0x7f, 0x80, 0xff][value % 4]!, at, at + 12);
    else if (kind === 'move') {
      const from = Math.floor((value / 256) * result.length);
      result.copyWithin(at, from, from + 64);
    } else result = result.slice(0, at);
  }
  return result;
}

for (const [name, runs] of [
  ['unigram-nmt-nfkc', 400],
  ['unigram-nmt-nfkc-cf', 300],
  ['unigram-identity', 1500],
  ['bpe-rules', 1500],
  ['bpe-identity', 1000],
  ['char', 800],
  ['word', 400],
] as const) {
  t.test(`${name}: a damaged file is refused or works somehow`, async (t) => {
    const data = await readFile(new URL(`${name}.model`, FOLDER));
    let refused = 0;
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 2 }), (damages) => {
        try {
          const tokenizer = new SentencePieceTokenizer(spoil(data, damages));
          const ids = tokenizer.encode(TEXT);
          tokenizer.decode(ids);
          return ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize);
        } catch (error) {
          refused++;
          return error instanceof KotodamaError && error.code === 'ERR_TOKENIZER';
        }
      }),
      { numRuns: runs, seed },
    );
    t.ok(refused > 0 && refused < runs, `some were refused: ${refused} of ${runs}`);
  });
}

t.test('files that are something else', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (data) => {
      try {
        new SentencePieceTokenizer(data);
        return false;
      } catch (error) {
        return error instanceof KotodamaError && error.code === 'ERR_TOKENIZER';
      }
    }),
    { numRuns: 3000, seed },
  );
  for (const other of ['texts.json', 'make.py']) {
    await t.rejects(loadSentencePiece(new URL(other, FOLDER)), { name: 'KotodamaError', code: 'ERR_TOKENIZER' }, other);
  }
});
