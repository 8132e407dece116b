import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import t from 'tap';
import { loadSentencePiece, SentencePieceTokenizer } from '../../dist/tokenizer/sentencepiece/index.js';
import { printedSeed } from './helpers/seed.js';

// Models and results were made with SentencePiece itself: fixtures/sentencepiece/make.py.
const FOLDER = new URL('fixtures/sentencepiece/', import.meta.url);
const MODELS = [
  'unigram-nmt-nfkc',
  'unigram-nmt-nfkc-cf',
  'unigram-identity',
  'unigram-suffix',
  'bpe-identity',
  'bpe-rules',
  'bpe-unused',
  'char',
  'word',
] as const;

interface Expected {
  vocabSize: number;
  /** Ids; -1 for none. */
  special: { bos: number; eos: number; pad: number; unk: number };
  ids: number[][];
  decoded: string[];
  randomIds: number[][];
  randomDecoded: string[];
  fingerprint: string;
}

const load = (name: (typeof MODELS)[number]) => loadSentencePiece(new URL(`${name}.model`, FOLDER));
const readJson = async (name: string) => JSON.parse(await readFile(new URL(name, FOLDER), 'utf8')) as unknown;

const texts = (await readJson('texts.json')) as string[];

for (const name of MODELS) {
  t.test(`${name}: equal to SentencePiece`, async (t) => {
    const tokenizer = await load(name);
    const expected = (await readJson(`${name}.json`)) as Expected;
    const id = (value: number) => (value < 0 ? undefined : value);
    t.equal(tokenizer.vocabSize, expected.vocabSize);
    t.equal(tokenizer.bosTokenId, id(expected.special.bos));
    t.equal(tokenizer.eosTokenId, id(expected.special.eos));
    t.equal(tokenizer.padTokenId, id(expected.special.pad));
    t.equal(tokenizer.unkTokenId, id(expected.special.unk));

    const wrong = (actual: unknown[], wanted: unknown[]) =>
      actual.flatMap((value, i) =>
        JSON.stringify(value) === JSON.stringify(wanted[i]) ? [] : [[i, value, wanted[i]]],
      );
    t.equal(texts.length, expected.ids.length);
    t.same(
      wrong(
        texts.map((text) => tokenizer.encode(text)),
        expected.ids,
      ),
      [],
      'ids of every text',
    );
    const decode = (ids: number[]) => tokenizer.decode(ids, { skipSpecialTokens: true });
    t.same(wrong(expected.ids.map(decode), expected.decoded), [], 'texts of their ids');
    t.same(wrong(expected.randomIds.map(decode), expected.randomDecoded), [], 'texts of random ids');
    t.equal(fingerprint(tokenizer), expected.fingerprint, 'ids of single code points between letters');
  });
}

/** The same as `fingerprint` of make.py. */
function fingerprint(tokenizer: SentencePieceTokenizer): string {
  const hash = createHash('sha256');
  const add = (codePoint: number) =>
    hash.update(`${tokenizer.encode(`a${String.fromCodePoint(codePoint)}b`).join(' ')}\n`);
  for (let c = 1; c < 0xd800; c++) add(c);
  for (let c = 0xe000; c < 0x20000; c++) add(c);
  for (let c = 0x20000; c < 0x110000; c += 97) add(c);
  return hash.digest('hex');
}

t.test('control pieces', async (t) => {
  const tokenizer = await load('unigram-nmt-nfkc');
  const ids = [2, ...tokenizer.encode('人間'), 3, 0, 5];
  t.equal(tokenizer.decode(ids), '<s>人間</s><pad><sep>');
  t.equal(tokenizer.decode(ids, { skipSpecialTokens: true }), '人間');
  t.notOk(tokenizer.encode('<s>').includes(2), 'text is never a control piece');
  t.equal(tokenizer.pieceToId('<cls>'), 4);
  t.equal(tokenizer.idToPiece(5), '<sep>');
  t.equal(tokenizer.pieceToId('no such piece'), undefined);
  t.equal(tokenizer.idToPiece(900), undefined);
});

t.test('special tokens by name', async (t) => {
  const path = new URL('unigram-nmt-nfkc.model', FOLDER);
  const specialTokens = { bos: '<cls>', eos: '<sep>', unk: '<unk>' };
  const tokenizer = await loadSentencePiece(path, { specialTokens });
  t.equal(tokenizer.bosTokenId, 4);
  t.equal(tokenizer.eosTokenId, 5);
  t.equal(tokenizer.padTokenId, 0, 'the one of the model');
  await t.rejects(loadSentencePiece(path, { specialTokens: { pad: '[PAD]' } }), {
    code: 'ERR_TOKENIZER',
    message:
      /the pad token "\[PAD\]" is not in the SentencePiece model\n {2}hint: tokens that Python adds beside a \.model are not/,
  });
});

t.test('a piece of text does not depend on what was encoded before', async (t) => {
  const { ids } = (await readJson('bpe-unused.json')) as Expected;
  const tokenizer = await load('bpe-unused');
  const backwards = texts.toReversed().map((text) => tokenizer.encode(text));
  t.same(backwards, ids.toReversed());
});

t.test('well-formed or not', async (t) => {
  const tokenizer = await load('bpe-identity');
  t.same(tokenizer.encode('a\ud800b'), tokenizer.encode('a\ufffdb'));
  t.same(tokenizer.encode('\udfff\ud800'), tokenizer.encode('\ufffd\ufffd'));
  t.same((await load('unigram-nmt-nfkc')).encode('a\udc00b'), (await load('unigram-nmt-nfkc')).encode('a b'));
});

t.test('byte pieces bring every text back', async (t) => {
  // An identity model with byte pieces loses nothing but extra spaces. U+2581 would come back as a space.
  const tokenizer = await load('bpe-identity');
  const kept = (text: string) => text.replace(/ +/g, ' ').replace(/^ | $/g, '');
  const property = fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
    fc.pre(!text.includes('\u2581'));
    return tokenizer.decode(tokenizer.encode(text)) === kept(text);
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 500 }));
});

t.test('pieces make up the normalized text', async (t) => {
  for (const name of ['unigram-identity', 'bpe-rules', 'char'] as const) {
    const tokenizer = await load(name);
    const known = fc.constantFrom(...'人権自由とは、のabce が  する<br>');
    const property = fc.property(fc.array(known, { maxLength: 30 }), (parts) => {
      const text = parts.join('');
      const ids = tokenizer.encode(text);
      fc.pre(!ids.includes(tokenizer.unkTokenId));
      return ids.map((id) => tokenizer.idToPiece(id)).join('') === tokenizer.normalize(text);
    });
    t.doesNotThrow(() => fc.assert(property, { numRuns: 1000 }), name);
  }
});

t.test('characters that compose, in any order', async (t) => {
  // The normalizer learns its rules from the text, so each order is another case. For these characters they are Unicode's.
  const seed = printedSeed(t);
  const model = await readFile(new URL('unigram-nmt-nfkc.model', FOLDER));
  const used = await load('unigram-nmt-nfkc');
  const mark = fc.constantFrom('', '', ...'\u3099\u309a\u0301\u0308\u0327ﾞﾟ');
  const character = fc
    .tuple(fc.constantFrom(...'かがはばぱんウヴﾊ（）１ae人各각'), mark)
    .map((parts) => parts.join(''));
  const text = fc.array(character, { minLength: 1, maxLength: 8 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, text, (first, second) => {
      const fresh = new SentencePieceTokenizer(model);
      return [fresh, used].every((tokenizer) =>
        [first, second, first].every((part) => tokenizer.normalize(`a${part}`) === `a${part}`.normalize('NFKC')),
      );
    }),
    { numRuns: 300, seed },
  );
});

t.test('a line of a million characters', async (t) => {
  const line = texts.filter((text) => text.length > 20).join('、');
  const long = line.repeat(Math.ceil(1_000_000 / line.length)).slice(0, 1_000_000);
  for (const name of ['unigram-nmt-nfkc', 'bpe-identity'] as const) {
    const tokenizer = await load(name);
    const ids = tokenizer.encode(long);
    t.ok(ids.length > 250_000, `${name}: ${ids.length} ids`);
    t.same(ids.slice(0, 50), tokenizer.encode(long.slice(0, 2000)).slice(0, 50));
    const same = tokenizer.encode('の'.repeat(1_000_000)).map((id) => tokenizer.idToPiece(id)!);
    t.equal(same.join('').replace('\u2581', '').length, 1_000_000);
    t.same(tokenizer.encode(line), (await load(name)).encode(line), 'as good as new afterwards');
  }
});

t.test('bad arguments', async (t) => {
  const tokenizer = await load('unigram-nmt-nfkc');
  for (const id of [900, -1, 1.5, Number.NaN]) {
    t.throws(() => tokenizer.decode([id]), {
      name: 'KotodamaError',
      code: 'ERR_TOKENIZER',
      expected: 'an integer from 0 to 899',
    });
  }
  t.throws(() => tokenizer.encode(undefined as unknown as string), { name: 'KotodamaError', code: 'ERR_DATA' });
  t.same(tokenizer.decode(Uint16Array.of(2)), '<s>', 'typed arrays are fine');
  await t.rejects(loadSentencePiece('/no/such/spiece.model'), { name: 'KotodamaError', code: 'ERR_IO' });
  await t.rejects(loadSentencePiece(new Uint8Array(17 * 1024 * 1024)), {
    name: 'KotodamaError',
    code: 'ERR_TOKENIZER',
  });
  t.ok(await loadSentencePiece(await readFile(new URL('char.model', FOLDER))), 'content instead of a path');
});
