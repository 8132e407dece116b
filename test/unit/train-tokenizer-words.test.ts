import fc from 'fast-check';
import t from 'tap';
import { PreTokenScanner } from '../../dist/tokenizer/byte-level/pre-token-scanner.js';
import { WordCounts } from '../../dist/tokenizer/training/word-counts.js';

/** GPT-2's pattern, with Unicode's white space as the `regex` module of Python has it. */
const PATTERN =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

function scan(text: string): string[] {
  const bytes = Buffer.from(text);
  const scanner = new PreTokenScanner();
  const parts: string[] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = scanner.endOf(bytes, start, bytes.length);
    parts.push(bytes.toString('utf8', start, end));
    start = end;
  }
  return parts;
}

t.test("pre-tokens are those of GPT-2's pattern", async (t) => {
  const pieces = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'",
    "'r",
    ' ',
    '  ',
    '\t',
    '\u3000',
    '\u0085',
    '\ufeff',
  ];
  const piece = fc.oneof(
    fc.constantFrom(
      ...pieces,
      'a',
      'あ',
      'é',
      '9',
      '½',
      'Ⅳ',
      '!',
      '。',
      '👍🏽',
      '𠀋',
      '\u{1d7d8}',
      '\u{e0041}',
      '\u{10ffff}',
    ),
    fc.string({ unit: 'binary', maxLength: 3 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (parts) => {
      const text = Buffer.from(parts.join('')).toString();
      return JSON.stringify(scan(text)) === JSON.stringify(text.match(PATTERN) ?? []);
    }),
    { numRuns: 2000 },
  );
  t.same(scan("I'll  go, 2b'"), ['I', "'ll", ' ', ' go', ',', ' 2', 'b', "'"]);
});

t.test('every character is of the kind that the pattern gives it', async (t) => {
  for (let first = 0; first < 0x110000; first += 0x1000) {
    let text = '';
    for (let codePoint = first; codePoint < first + 0x1000; codePoint++) {
      if (codePoint < 0xd800 || codePoint > 0xdfff) text += `a${String.fromCodePoint(codePoint)}`;
    }
    if (JSON.stringify(scan(text)) !== JSON.stringify(text.match(PATTERN) ?? [])) t.fail(first.toString(16));
  }
  t.pass();
});

t.test('words are counted', async (t) => {
  const counts = new WordCounts();
  const expected = new Map<string, number>();
  for (let i = 0; i < 60_000; i++) {
    const word = `${(i * i) % 20_011}`.repeat(1 + (i % 3));
    const text = Buffer.from(`<${word}>`);
    counts.add(text, 1, text.length - 1);
    expected.set(word, (expected.get(word) ?? 0) + 1);
  }
  t.equal(counts.size, expected.size);
  const wrong = [...expected].filter(([word, count], index) => {
    const bytes = counts.bytes.subarray(counts.starts[index], counts.starts[index + 1]);
    return Buffer.from(bytes).toString() !== word || counts.counts[index] !== count;
  });
  t.same(wrong, [], 'in the order in which they came first');
  t.equal(counts.byteLength, [...expected.keys()].join('').length);
});

t.test('too many different words', async (t) => {
  const counts = new WordCounts(8);
  const add = (word: string) => counts.add(Buffer.from(word), 0, word.length);
  for (const word of ['abcd', 'efgh', 'abcd']) add(word);
  t.throws(() => add('i'), { code: 'ERR_MEMORY', message: /at most 8 bytes of different words/ });
  add('abcd');
  t.equal(counts.counts[0], 3);
});
