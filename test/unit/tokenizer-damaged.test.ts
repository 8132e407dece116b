import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { KotodamaError } from '../../dist/errors.js';
import { type JsonObject, Tokenizer } from '../../dist/tokenizer/index.js';
import { printedSeed } from './helpers/seed.js';
import { readTokenizerFile, unigramJson } from './helpers/tokenizer-json.js';

const seed = printedSeed(t);

const FULL = readTokenizerFile('tokenizer.json');

/** The same tokenizer with few tokens, so that thousands of them can be built. */
const SMALL: JsonObject = {
  ...FULL,
  model: {
    ...FULL.model,
    vocab: Object.fromEntries(Object.entries(FULL.model.vocab).filter(([, id]) => id < 300)),
    merges: FULL.model.merges.slice(0, 43),
  },
};

const UNIGRAM: JsonObject = {
  ...unigramJson([
    ['▁', -2],
    ['a', -1],
    ['b', -1],
    ['▁a', -1.5],
    ['ab', -3],
  ]),
  normalizer: {
    type: 'Sequence',
    normalizers: [{ type: 'NFKC' }, { type: 'Replace', pattern: { String: '  ' }, content: ' ' }],
  },
};

const TEXT = 'All human beings, a ab  すべての人間は\0<|endoftext|>\u{1f468}';

/** What stands where something else is expected. */
const junk = fc.constantFrom<unknown>(
  null,
  true,
  -1,
  0,
  0.5,
  1e9,
  2 ** 31,
  2 ** 32 - 2,
  Number.MAX_VALUE,
  '',
  'x',
  'a b',
  [],
  [null],
  [['a']],
  {},
  { type: 'x' },
  { type: 'BPE' },
  '__proto__',
  '\ud800',
);

/** Puts something else into one place of a value, or takes it away; the place is found by walking down. */
function spoil(value: unknown, path: readonly number[], replacement: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined || typeof value !== 'object' || value === null) return replacement;
  const keys = Object.keys(value);
  if (keys.length === 0) return replacement;
  const key = keys[step % keys.length];
  const copy = (Array.isArray(value) ? [...value] : { ...value }) as { [key: string]: unknown };
  const inside = spoil(copy[key], rest, replacement);
  if (inside === undefined) delete copy[key];
  else copy[key] = inside;
  return copy;
}

/** Builds and uses a tokenizer; anything but an error of ours or sensible ids is a failure. */
function survives(json: unknown): boolean {
  try {
    const tokenizer = Tokenizer.fromJson(json as JsonObject, { eos_token: '<|endoftext|>' });
    const ids = tokenizer.encode(TEXT);
    return ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize);
  } catch (error) {
    return error instanceof KotodamaError && error.code === 'ERR_TOKENIZER';
  }
}

for (const [name, whole] of Object.entries({ 'byte-level BPE': SMALL, unigram: UNIGRAM })) {
  t.test(`${name}: a tokenizer.json with something wrong is refused or works somehow`, async () => {
    const path = fc.array(fc.nat(400), { minLength: 1, maxLength: 5 });
    const value = fc.oneof({ weight: 4, arbitrary: junk }, { weight: 1, arbitrary: fc.constant(undefined) });
    fc.assert(
      fc.property(fc.array(fc.tuple(path, value), { minLength: 1, maxLength: 3 }), (damages) =>
        survives(
          damages.reduce((json, [place, replacement]) => spoil(json, place, replacement), whole as unknown) ?? {},
        ),
      ),
      { numRuns: 1500, seed },
    );
  });
}

t.test('a list for the vocabulary of a BPE model', async (t) => {
  t.ok(survives({ ...SMALL, model: { ...(SMALL.model as object), vocab: [] } }));
});

t.test('a tokenizer.json with damaged bytes is refused or works somehow', async (t) => {
  const whole = Buffer.from(JSON.stringify(SMALL));
  const folder = t.testdir();
  const places = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  const end = fc.oneof({ weight: 3, arbitrary: fc.constant(whole.length) }, fc.nat(whole.length));
  await fc.assert(
    fc.asyncProperty(places, end, async (damages, length) => {
      const bytes = Buffer.from(whole.subarray(0, length));
      for (const [place, byte] of damages) if (place < length) bytes[place] = byte;
      writeFileSync(join(folder, 'tokenizer.json'), bytes);
      try {
        const tokenizer = await Tokenizer.fromPretrained(folder);
        return tokenizer.encode(TEXT).every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize);
      } catch (error) {
        return error instanceof KotodamaError && error.code === 'ERR_TOKENIZER';
      }
    }),
    { numRuns: 2000, seed },
  );
});

t.test('tables that would take gigabytes, or be trusted wrongly', async (t) => {
  const change = (model: object, more: object = {}) => ({
    ...SMALL,
    ...more,
    model: { ...(SMALL.model as object), ...model },
  });
  const cases: [string, unknown, RegExp][] = [
    ['a huge id', change({ vocab: { a: 2 ** 32 - 2 } }), /the id of "a".*a whole number below 4194304/s],
    ['half an id', change({ vocab: { a: 0.5 } }), /the id of "a"/],
    ['a huge added id', change({}, { added_tokens: [{ id: 4e9, content: 'x' }] }), /the id of the added token "x"/],
    ['an added token without text', change({}, { added_tokens: [{ id: 1 }] }), /the content of an added token/],
    ['added tokens that are no list', change({}, { added_tokens: {} }), /added_tokens is damaged/],
    ['a vocabulary that is text', change({ vocab: 'x' }), /the vocabulary is damaged/],
    ['a piece without score', { ...UNIGRAM, model: { type: 'Unigram', vocab: [['a']] } }, /piece 0 of the vocabulary/],
    [
      'an unknown piece that is not there',
      { ...UNIGRAM, model: { ...(UNIGRAM.model as object), unk_id: 6 } },
      /unk_id is damaged/,
    ],
    ['merges that are text', change({ merges: 'a b' }), /the merges is damaged|the merges/],
    ['a merge of one', change({ merges: ['a'] }), /a merge is damaged/],
    ['a merge of numbers', change({ merges: [[1, 2]] }), /a merge is damaged/],
  ];
  for (const [name, json, message] of cases) {
    t.throws(() => Tokenizer.fromJson(json as JsonObject), { code: 'ERR_TOKENIZER', message }, name);
  }
});

t.test('a byte-level vocabulary that lacks a byte or a merged token goes to the library', async (t) => {
  const { vocab } = SMALL.model as { vocab: { [token: string]: number } };
  const { A: _, ...without } = vocab;
  const lacking = Tokenizer.fromJson({
    ...SMALL,
    model: { ...(SMALL.model as object), vocab: without, unk_token: '!' },
  });
  const whole = Tokenizer.fromJson(SMALL);
  t.same(lacking.encode('free'), whole.encode('free'));
  t.same(lacking.encode('A'), [vocab['!']], 'unknown, as the file says');
});

t.test('a quarter of a million pieces, and a text of as many tokens', async (t) => {
  const size = 262_144;
  const piece = (index: number) => `w${index.toString(36)}`;
  const words = Array.from({ length: size - 2 }, (_, index) => [`▁${piece(index)}`, -10] as const);
  const tokenizer = Tokenizer.fromJson(unigramJson([['▁', -20], ...words]));
  t.equal(tokenizer.vocabSize, size);
  const indices = Array.from({ length: 150_000 }, (_, i) => (i * 7919) % (size - 2));
  const ids = tokenizer.encode(indices.map(piece).join(' '));
  t.equal(ids.length, indices.length, 'more tokens than the library takes at once');
  t.ok(ids.every((id, i) => id === indices[i] + 2));
});
