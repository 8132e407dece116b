import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { type JsonObject, loadSentencePiece, Tokenizer } from '../../dist/tokenizer/index.js';
import { clustersOf } from '../../dist/tokenizer/json/clusters.js';
import { LongPieces } from '../../dist/tokenizer/json/long-pieces.js';
import { normalizerOf } from '../../dist/tokenizer/json/normalizers.js';
import { preTokenizerOf } from '../../dist/tokenizer/json/pre-tokenizers.js';
import { printedSeed } from './helpers/seed.js';
import { readTokenizerFile, unigramJson } from './helpers/tokenizer-json.js';

// Made with Python's tokenizers: fixtures/tokenizer/make-parts.py.
interface Parts {
  texts: string[];
  longTexts: [text: string, count: number][];
  normalizers: { json: JsonObject; results: string[] }[];
  preTokenizers: { json: JsonObject; results: string[][] }[];
  decoders: { json: JsonObject; tokens: string[][]; results: string[] }[];
  tokenizers: { name: string; json: JsonObject; ids: number[][]; long: string[] }[];
}

const FIXTURES = new URL('./fixtures/', import.meta.url);
const PARTS = JSON.parse(readFileSync(new URL('tokenizer/parts.json', FIXTURES), 'utf8')) as Parts;
const BPE = readTokenizerFile('tokenizer.json');

/** The texts of which something else is made than is expected. */
function wrong<T>(make: (text: string) => T, expected: readonly T[]): unknown[] {
  const results = PARTS.texts.map((text, index) => ({ text, made: make(text), expected: expected[index] }));
  return results.filter(({ made, expected }) => JSON.stringify(made) !== JSON.stringify(expected));
}

t.test('normalizers', async (t) => {
  const name = 'unigram-nmt-nfkc-cf';
  const { vocabulary } = await loadSentencePiece(new URL(`sentencepiece/${name}.model`, FIXTURES));
  const charsmap = Buffer.from((vocabulary.method as { charsmap: Uint8Array }).charsmap).toString('base64');
  for (const { json, results } of PARTS.normalizers) {
    const normalize = normalizerOf(JSON.parse(JSON.stringify(json).replace(name, charsmap)));
    t.same(wrong(normalize, results), [], JSON.stringify(json));
  }
});

t.test('a line of a megabyte: what its parts become', async (t) => {
  const { vocabulary } = await loadSentencePiece(new URL('sentencepiece/unigram-nmt-nfkc.model', FIXTURES));
  const charsmap = Buffer.from((vocabulary.method as { charsmap: Uint8Array }).charsmap).toString('base64');
  const normalize = normalizerOf({ type: 'Precompiled', precompiled_charsmap: charsmap });
  for (const part of ['The cat sat, ', '吾輩は猫である。ｶﾞＡ㍻', `か${'\u0301'.repeat(300)}ﾊﾟ`]) {
    const count = Math.ceil(1e6 / Buffer.byteLength(part));
    t.not(normalize(part), '');
    t.ok(normalize(part.repeat(count)) === normalize(part).repeat(count), part.slice(0, 20));
  }
});

t.test('grapheme clusters from short parts of a text are those of all of it', async (t) => {
  const whole = new Intl.Segmenter('und', { granularity: 'grapheme' });
  const joining = [...'a\r\n猫か\u3099\u0301\u200d\ufe0f👍🏽👩👦🇯🇵가각ᄀ\u1161\u11a8क\u094dषกำ\u0600ｶﾞ'];
  const character = fc.oneof(
    { arbitrary: fc.constantFrom(...joining), weight: 9 },
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
  );
  fc.assert(
    fc.property(fc.array(character, { maxLength: 40 }), fc.integer({ min: 1, max: 9 }), (characters, longest) => {
      const text = characters.join('');
      const expected = Array.from(whole.segment(text), ({ segment }) => segment);
      return JSON.stringify([...clustersOf(text, longest)]) === JSON.stringify(expected);
    }),
    { numRuns: 2000, seed: printedSeed(t) },
  );
});

t.test('pre-tokenizers', async (t) => {
  for (const { json, results } of PARTS.preTokenizers) {
    const cut = preTokenizerOf(json);
    const pieces = (text: string) => (text === '' ? [] : cut({ text, isFirst: true }).map((piece) => piece.text));
    t.same(wrong(pieces, results), [], JSON.stringify(json));
  }
});

t.test('a suffix of words is no reason to trim a text', async (t) => {
  const model = {
    type: 'BPE',
    end_of_word_suffix: '</w>',
    vocab: { '\n': 0, a: 1, 'a</w>': 2, '\n</w>': 3 },
    merges: [],
  };
  const tokenizer = Tokenizer.fromJson({ model, decoder: { type: 'BPEDecoder', suffix: '</w>' } });
  for (const skipSpecialTokens of [false, true]) {
    t.equal(tokenizer.decode([0, 2, 1, 2, 3], { skipSpecialTokens }), '\na aa \n');
  }
});

t.test('decoders', async (t) => {
  for (const { json, tokens, results } of PARTS.decoders) {
    const decoded = tokens.map((list) => {
      const pieces = [...new Set(list)];
      const model = { type: 'WordLevel', vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])) };
      return Tokenizer.fromJson({ model, decoder: json }).decode(list.map((piece) => pieces.indexOf(piece)));
    });
    t.same(decoded, results, JSON.stringify(json));
  }
});

t.test('an added token of characters of bytes is no bytes', async (t) => {
  const model = { type: 'WordLevel', vocab: { ç: 0, ĮĞ: 1, '«': 2 } };
  const added_tokens = [{ id: 3, content: 'é', special: false }];
  const tokenizer = Tokenizer.fromJson({ model, added_tokens, decoder: { type: 'ByteLevel' } });
  t.equal(tokenizer.decode([3]), 'é');
});

t.test('the model makes no added tokens', async (t) => {
  const model = { type: 'WordLevel', vocab: { '[UNK]': 0, a: 1 }, unk_token: '[UNK]' };
  const added_tokens = [{ id: 3, content: 'ADD', special: true, normalized: false }];
  const tokenizer = Tokenizer.fromJson({
    ...{ model, added_tokens, normalizer: { type: 'NFKC' }, pre_tokenizer: { type: 'WhitespaceSplit' } },
  });
  t.same(tokenizer.encode('ＡＤＤ a ADD'), [0, 1, 3], "as Python's tokenizers");
  t.equal(tokenizer.decode([0, 1, 3]), '[UNK] a ADD');
  t.equal(tokenizer.vocabulary.tokens[3], 'ADD');
});

t.test('a BPE model without an unknown token merges over characters that it lacks', async (t) => {
  const model = { type: 'BPE', vocab: { a: 0, b: 1, ab: 2, aXb: 3 }, merges: [['a', 'b']] };
  t.same(Tokenizer.fromJson({ model }).encode('aXb猫a'), [2, 0], "as Python's tokenizers");
  t.same(Tokenizer.fromJson({ model: { ...model, ignore_merges: true } }).encode('aXb'), [3]);
});

t.test('white space that is an added token is taken once', async (t) => {
  const model = { type: 'WordLevel', vocab: { '[UNK]': 0, a: 1 }, unk_token: '[UNK]' };
  const ids = (flags: JsonObject) =>
    Tokenizer.fromJson({ model, added_tokens: [{ id: 2, content: '\n', ...flags }] }).encode('a\n\n\na');
  t.same(ids({ lstrip: true, rstrip: true }), [1, 2, 1], "as Python's tokenizers");
  t.same(ids({ lstrip: true }), [1, 2, 2, 2, 1]);
});

t.test('what a pattern finds may be empty, and separates', async (t) => {
  const cut = (behavior: string, Regex: string) =>
    preTokenizerOf({ type: 'Split', pattern: { Regex }, behavior })({ text: 'myBigCat', isFirst: true });
  for (const behavior of ['Contiguous', 'Isolated', 'Removed', 'MergedWithPrevious', 'MergedWithNext']) {
    t.same(
      cut(behavior, '(?=[A-Z])').map(({ text }) => text),
      ['my', 'Big', 'Cat'],
      behavior,
    );
  }
  t.same(
    cut('Contiguous', 'B*').map(({ text }) => text),
    ['m', 'y', 'B', 'i', 'g', 'C', 'a', 't'],
  );
});

t.test('a Unigram model: a long run of characters that it lacks', async (t) => {
  const tokenizer = Tokenizer.fromJson(
    unigramJson([
      ['▁', -2],
      ['a', -1],
    ]),
  );
  const few = tokenizer.encode('a猫猫a');
  t.same(tokenizer.encode(`a${'猫'.repeat(130_000)}a`), few);
});

for (const { name, json, ids, long } of PARTS.tokenizers) {
  t.test(`ids: ${name}`, async (t) => {
    const tokenizer = Tokenizer.fromJson({ ...json, model: json.model ?? BPE.model });
    t.same(
      wrong((text) => tokenizer.encode(text), ids),
      [],
    );
    const sums = PARTS.longTexts.map(([text, count]) => JSON.stringify(tokenizer.encode(text.repeat(count))));
    t.same(
      sums.map((text) => createHash('sha256').update(text).digest('hex')),
      long,
      'long texts',
    );
  });
}

t.test('a space before a text: tokenizer_config.json wins', async (t) => {
  const prefixed = { ...BPE, pre_tokenizer: { ...(BPE.pre_tokenizer as object), add_prefix_space: true } };
  const [plain, spaced] = [Tokenizer.fromJson(BPE), Tokenizer.fromJson(prefixed)];
  t.not(plain.encode('the').join(), spaced.encode('the').join());
  t.same(Tokenizer.fromJson(BPE, { add_prefix_space: true }).encode('the'), spaced.encode('the'));
  t.same(Tokenizer.fromJson(prefixed, { add_prefix_space: false }).encode('the'), plain.encode('the'));
});

t.test('an added token that the vocabulary has keeps the id that it has there', async (t) => {
  for (const json of [BPE, { ...BPE, normalizer: { type: 'NFC' } }]) {
    const tokenizer = Tokenizer.fromJson({ ...json, added_tokens: [{ id: 2048, content: 'on' }] });
    t.same([tokenizer.vocabSize, tokenizer.encode('on')], [2048, [BPE.model.vocab.on]]);
  }
});

t.test('a model without its type, as in older files, is what its tables are', async (t) => {
  const { type: _, ...model } = BPE.model as typeof BPE.model & { type?: unknown };
  const older = {
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: '',
    end_of_word_suffix: '',
    fuse_unk: false,
  };
  const [plain, untyped] = [Tokenizer.fromJson(BPE), Tokenizer.fromJson({ ...BPE, model: { ...older, ...model } })];
  t.same(untyped.encode('the cat 猫<|endoftext|>'), plain.encode('the cat 猫<|endoftext|>'));
  t.equal(untyped.vocabulary.method?.kind, 'byte-level-bpe');
  t.same(untyped.vocabulary, plain.vocabulary);
  const pieces = {
    unk_id: 0,
    vocab: [
      ['<unk>', 0],
      ['a', -1],
      ['aa', -1],
    ],
  };
  t.same(
    Tokenizer.fromJson({ model: pieces }).encode('aaab'),
    Tokenizer.fromJson({ model: { type: 'Unigram', ...pieces } }).encode('aaab'),
  );
});

t.test('small letters of BERT: tokenizer_config.json wins', async (t) => {
  const vocab = { '[UNK]': 0, A: 1, a: 2, É: 3 };
  const model = {
    type: 'WordPiece',
    vocab,
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 9,
  };
  const ids = (lowercase: boolean, config: JsonObject) => {
    const normalizer = { type: 'BertNormalizer', clean_text: true, strip_accents: null, lowercase };
    const json = { model, normalizer, pre_tokenizer: { type: 'BertPreTokenizer' } };
    return Tokenizer.fromJson(json, config).encode('A É');
  };
  t.same(ids(true, {}), [2, 0]);
  t.same(ids(true, { do_lower_case: false }), [1, 3]);
  t.same(ids(false, {}), [1, 3]);
  t.same(ids(false, { do_lower_case: true }), [2, 0]);
});

t.test('a token that only tokenizer_config.json names is left out', async (t) => {
  const config = {
    eos_token: '<|endoftext|>',
    pad_token: { content: '[PAD]', lstrip: true },
    unk_token: 'a',
    added_tokens_decoder: { 2048: { content: '<new>', special: false, normalized: false } },
    additional_special_tokens: ['<user>', '[PAD]'],
  };
  const [plain, tokenizer] = [Tokenizer.fromJson(BPE), Tokenizer.fromJson(BPE, config)];
  t.equal(tokenizer.vocabSize, 2048);
  t.same(tokenizer.vocabulary, plain.vocabulary);
  t.same([tokenizer.padTokenId, tokenizer.unkTokenId, tokenizer.eosTokenId], [undefined, BPE.model.vocab.a, 0]);
  t.same(tokenizer.encode('<new> [PAD]<user>a'), plain.encode('<new> [PAD]<user>a'));
});

t.test('parts of an unknown kind are refused', async (t) => {
  const refuse = (parts: JsonObject, message: RegExp) =>
    t.throws(() => Tokenizer.fromJson({ ...unigramJson([['▁a', -1]]), ...parts }), { code: 'ERR_TOKENIZER', message });
  refuse({ normalizer: { type: 'constructor' } }, /unknown normalizer "constructor"/);
  refuse({ pre_tokenizer: { type: 'UnicodeScripts' } }, /unknown pre-tokenizer "UnicodeScripts"/);
  refuse({ pre_tokenizer: { type: 'Split', pattern: { String: 'a' }, behavior: 'Other' } }, /unknown behavior "Other"/);
  refuse({ pre_tokenizer: { type: 'Split', pattern: {}, behavior: 'Isolated' } }, /neither a String nor a Regex/);
  refuse({ normalizer: { type: 'Precompiled', precompiled_charsmap: 'AAAA' } }, /precompiled_charsmap is damaged/);
  const model = { type: 'BPE', vocab: { a: 0 }, merges: [], continuing_subword_prefix: '##' };
  refuse({ model, added_tokens: [] }, /continuing_subword_prefix/);
});

t.test('long pieces are cut where no token reaches across', async (t) => {
  const pieces = new LongPieces(['a', 'b', 'ab', 'ba', '▁a', '👍'], 4);
  t.same(pieces.cut('aabb'), ['aabb']);
  t.same(pieces.cut('abababaab'), ['abababa', 'ab'], 'later where there is no place before');
  t.same(pieces.cut('ab▁ab▁ab'), ['ab', '▁ab', '▁ab']);
  t.same(pieces.cut('👍👍👍'), ['👍👍', '👍']);
  t.same(pieces.cut('xyxyxy'), ['xyxyxy'], 'unknown characters stay together');
  t.same(pieces.cut('xyxyxyaxy'), ['xyxyxy', 'axy']);
});
