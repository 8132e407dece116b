import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { loadSentencePiece, Tokenizer } from '../../dist/tokenizer/index.js';
import { TOKENIZER_FOLDER } from './helpers/blocks.js';
import { temporaryFolder } from './helpers/temporary-folder.js';
import { readTokenizerFile, unigramJson } from './helpers/tokenizer-json.js';

const CASES = JSON.parse(
  readFileSync(new URL('./fixtures/tokenizer/byte-level-bpe.json', import.meta.url), 'utf8'),
) as { text: string; ids: number[] }[];
const BPE = readTokenizerFile('tokenizer.json');
const CONFIG = readTokenizerFile('tokenizer_config.json');

function folderOf(files: { [name: string]: unknown }): string {
  const folder = temporaryFolder();
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

t.test("a byte-level BPE gives the ids of Python's tokenizers, and the text back", async (t) => {
  const tokenizer = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
  t.ok(CASES.length > 100);
  for (const round of ['first', 'remembered']) {
    const wrong = CASES.filter(({ text, ids }) => tokenizer.encode(text).join() !== ids.join());
    t.same(wrong, [], `${round} encoding`);
  }
  const changed = CASES.filter(({ text, ids }) => tokenizer.decode(ids) !== text);
  t.same(changed, [], 'decoding');
});

t.test('the memory of pre-tokens changes nothing', async () => {
  const fast = Tokenizer.fromJson(BPE, CONFIG);
  // The same tokenizer, described so that it does not qualify for the memory.
  const slow = Tokenizer.fromJson({ ...BPE, pre_tokenizer: { type: 'Sequence', pretokenizers: [BPE.pre_tokenizer] } });
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 8 }),
    fc.constantFrom(
      '<|endoftext|>',
      '<|',
      "'s",
      "'",
      ' ',
      '  ',
      '\n',
      '　',
      'は',
      'を',
      'free ',
      ' born',
      '12',
      '½',
      '👍🏽',
    ),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const text = pieces.join('');
      const ids = fast.encode(text);
      return ids.join() === slow.encode(text).join() && fast.decode(ids) === text;
    }),
    { numRuns: 200 },
  );
});

t.test('special ids, files, fingerprint', async (t) => {
  const tokenizer = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
  t.equal(tokenizer.vocabSize, 2048);
  t.same([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.unkTokenId], [0, 0, 0]);
  t.equal(tokenizer.padTokenId, undefined);
  t.same(tokenizer.files, [join(TOKENIZER_FOLDER, 'tokenizer.json'), join(TOKENIZER_FOLDER, 'tokenizer_config.json')]);

  const copy = temporaryFolder();
  for (const file of tokenizer.files) copyFileSync(file, join(copy, file.slice(TOKENIZER_FOLDER.length + 1)));
  t.equal((await Tokenizer.fromPretrained(copy)).fingerprint, tokenizer.fingerprint, 'a copy is the same tokenizer');
  writeFileSync(join(copy, 'special_tokens_map.json'), '{"pad_token": {"content": "<|endoftext|>"}, "bos_token": "a"}');
  const other = await Tokenizer.fromPretrained(copy);
  t.not(other.fingerprint, tokenizer.fingerprint);
  t.equal(other.padTokenId, 0, 'special_tokens_map.json may hold objects');
  t.equal(other.bosTokenId, 0, 'tokenizer_config.json wins');
  t.equal(other.files.length, 3);
});

t.test('decoding', async (t) => {
  const tokenizer = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
  const text = " Hello , world . don 't  do that !";
  t.equal(tokenizer.decode(tokenizer.encode(text)), text, 'spaces are not cleaned up');
  t.equal(tokenizer.decode([]), '');
  t.equal(tokenizer.decode(Int32Array.from(tokenizer.encode(text))), text);
  const ended = [...tokenizer.encode('end'), 0];
  t.equal(tokenizer.decode(ended), 'end<|endoftext|>');
  t.equal(tokenizer.decode(ended, { skipSpecialTokens: true }), 'end');
  t.equal(tokenizer.decode([0], { skipSpecialTokens: true }), '');
  for (const id of [2048, -1, 0.5, Number.NaN]) t.throws(() => tokenizer.decode([1, id]), { code: 'ERR_TOKENIZER' });
});

t.test('what is no text, and what are no ids', async (t) => {
  const tokenizer = await Tokenizer.fromPretrained('demo/tokenizer');
  const wrong = { name: 'KotodamaError', code: 'ERR_OPTIONS' };
  for (const [text, details] of [
    [5, { received: '5' }],
    [undefined, { received: 'undefined' }],
    [['a', 'b'], { received: 'an array of 2', hint: /one text at a time/ }],
    [Promise.resolve('a'), { received: /await/ }],
  ] as const) {
    t.throws(() => tokenizer.encode(text as never), { ...wrong, expected: 'a string', ...details });
  }
  for (const [ids, details] of [
    [5, { received: '5', hint: /\[id\]/ }],
    [undefined, { received: 'undefined' }],
    ['ab', { received: "'ab'" }],
    [[1, [2]], { message: /at 1/, received: 'an array of 1', hint: /one text at a time/ }],
    [['1'], { message: /at 0/, received: "'1'" }],
  ] as const) {
    t.throws(() => tokenizer.decode(ids as never), { ...wrong, ...details });
  }
  for (const ids of [new Int32Array([66, 67]), { 0: 66, 1: 67, length: 2 }]) {
    t.equal(tokenizer.decode(ids), tokenizer.decode([66, 67]));
  }
});

t.test('lone surrogates become U+FFFD', async (t) => {
  const tokenizer = Tokenizer.fromJson(BPE, CONFIG);
  t.equal(tokenizer.decode(tokenizer.encode('a\ud800b\udc00')), 'a\ufffdb\ufffd');
});

t.test('words, with an unknown token; a Unigram model with a long line', async (t) => {
  const words = Tokenizer.fromJson(
    {
      model: {
        type: 'WordPiece',
        vocab: { '[UNK]': 0, '[PAD]': 1, ka: 2, '##na': 3, moji: 4 },
        unk_token: '[UNK]',
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
      },
      pre_tokenizer: { type: 'Whitespace' },
      decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
      added_tokens: [{ id: 1, content: '[PAD]', special: true }],
    },
    { pad_token: '[PAD]' },
  );
  t.same(words.encode('kana moji what'), [2, 3, 4, 0]);
  t.equal(words.decode([2, 3, 4]), 'kana moji');
  t.same([words.unkTokenId, words.padTokenId, words.eosTokenId, words.vocabSize], [0, 1, undefined, 5]);

  const unigram = Tokenizer.fromJson(
    unigramJson([
      ['▁', -2],
      ['a', -1],
      ['▁a', -1.5],
    ]),
  );
  t.equal(unigram.unkTokenId, 0);
  t.same(unigram.encode('a aa'), [3, 3, 2]);
  const long = 'a '.repeat(150_000).trimEnd();
  const ids = unigram.encode(long);
  t.equal(ids.length, 150_000);
  t.ok(ids.every((id) => id === 3));
});

t.test('a folder with a SentencePiece model and special_tokens_map.json', async (t) => {
  const folder = folderOf({ 'special_tokens_map.json': { eos_token: '</s>', pad_token: { content: '<unk>' } } });
  copyFileSync(
    new URL('./fixtures/sentencepiece/unigram-nmt-nfkc.model', import.meta.url),
    join(folder, 'spiece.model'),
  );
  const tokenizer = await Tokenizer.fromPretrained(folder);
  const model = await loadSentencePiece(join(folder, 'spiece.model'));
  const text = 'すべての人間は、生まれながらにして自由であり';
  t.same(tokenizer.encode(text), model.encode(text));
  t.equal(tokenizer.decode(model.encode(text)), model.decode(model.encode(text)));
  t.equal(tokenizer.eosTokenId, model.pieceToId('</s>'));
  t.equal(tokenizer.padTokenId, model.pieceToId('<unk>'));
  t.same(tokenizer.files, [join(folder, 'spiece.model'), join(folder, 'special_tokens_map.json')]);
});

t.test('tokens that Python adds beside a SentencePiece model are refused', async (t) => {
  const load = (files: { [name: string]: unknown }) => {
    const folder = folderOf(files);
    copyFileSync(
      new URL('./fixtures/sentencepiece/unigram-nmt-nfkc.model', import.meta.url),
      join(folder, 'spiece.model'),
    );
    return Tokenizer.fromPretrained(folder);
  };
  const { vocabSize, vocabulary } = await load({});
  const eos = vocabulary.tokens.indexOf('</s>');
  const refused: [name: string, content: unknown, message: RegExp][] = [
    ['added_tokens.json', { '<new>': vocabSize }, /"<new>" is not in the SentencePiece model/],
    ['added_tokens.json', { '</s>': eos + 1 }, /"<\/s>" is piece \d+ of the SentencePiece model/],
    ['tokenizer_config.json', { added_tokens_decoder: { [vocabSize]: { content: '<new>' } } }, /"<new>"/],
    ['special_tokens_map.json', { additional_special_tokens: ['</s>', { content: '<new>' }] }, /"<new>"/],
  ];
  for (const [name, content, message] of refused) {
    await t.rejects(load({ [name]: content }), { code: 'ERR_TOKENIZER', message, hint: /beside a \.model/ }, name);
  }
  const same = { added_tokens_decoder: { [eos]: { content: '</s>' } }, additional_special_tokens: ['</s>'] };
  t.equal((await load({ 'added_tokens.json': { '</s>': eos }, 'tokenizer_config.json': same })).vocabSize, vocabSize);
});

t.test('a text that the vocabulary cannot express', async (t) => {
  const model = { type: 'WordPiece', vocab: { a: 0 }, continuing_subword_prefix: '##', max_input_chars_per_word: 100 };
  const tokenizer = Tokenizer.fromJson({ model });
  t.same(tokenizer.encode('a'), [0]);
  t.throws(() => tokenizer.encode('b'), { code: 'ERR_TOKENIZER', message: /no token for a part of "b"/ });
});

t.test("added tokens that overlap, also those that must be words: the ids of Python's tokenizers", async (t) => {
  const url = new URL('./fixtures/tokenizer/added-tokens.json', import.meta.url);
  const rounds = JSON.parse(readFileSync(url, 'utf8')) as { tokens: object[]; cases: typeof CASES }[];
  for (const { tokens, cases } of rounds) {
    const added = tokens.map((token, index) => ({ id: 2048 + index, ...token }));
    const all = [...(BPE.added_tokens as object[]), ...added];
    const tokenizer = Tokenizer.fromJson({ ...BPE, added_tokens: all }, CONFIG);
    const wrong = cases.filter(({ text, ids }) => tokenizer.encode(text).join() !== ids.join());
    t.same(wrong, [], JSON.stringify(tokens));
  }
});

t.test('a text that fails in a later part leaves nothing to the next one', async (t) => {
  const model = { type: 'WordPiece', vocab: { a: 0 }, continuing_subword_prefix: '##', max_input_chars_per_word: 100 };
  const tokenizer = Tokenizer.fromJson({ pre_tokenizer: { type: 'WhitespaceSplit' }, model });
  t.throws(() => tokenizer.encode(`${'a '.repeat(25_000)}b`), { code: 'ERR_TOKENIZER' });
  t.same(tokenizer.encode('a a'), [0, 0]);
});

t.test('files that cannot be used', async (t) => {
  const reject = (folder: string, message: RegExp) =>
    t.rejects(Tokenizer.fromPretrained(folder), { code: 'ERR_TOKENIZER', message }, String(message));
  for (const path of [undefined, '', pathToFileURL(TOKENIZER_FOLDER), Buffer.from('tok')]) {
    await t.rejects(Tokenizer.fromPretrained(path as string), {
      code: 'ERR_OPTIONS',
      message: /^the tokenizer: expected a path, received /,
    });
  }
  await reject('gpt2-small-ja', /gpt2-small-ja was not found.*of the Hub/s);
  await reject(join(TOKENIZER_FOLDER, 'tokenizer.json'), /not a folder/);
  await reject(folderOf({}), /no tokenizer.*an empty folder/s);
  const older = { 'vocab.json': '{}', 'merges.txt': '' };
  await reject(folderOf(older), /only merges.txt, vocab.json\n.*GPT2TokenizerFast.from_pretrained.*save_pretrained/);
  await reject(folderOf({ ...older, 'config.json': '{}' }), /\n.*AutoTokenizer.from_pretrained.*save_pretrained/);
  await reject(folderOf({ 'vocab.txt': '' }), /no tokenizer.*only vocab.txt/s);
  await reject(folderOf({ 'tokenizer.json': '{"model": ' }), /tokenizer\.json cannot be read/);
  await reject(folderOf({ 'tokenizer.json': [] }), /tokenizer\.json.*an array/s);
  await reject(folderOf({ 'tokenizer.json': {} }), /tokenizer\.json.*"model"/s);
  await reject(folderOf({ 'tokenizer.json': { model: { type: 'New' } } }), /tokenizer\.json cannot be used/);
  await reject(folderOf({ 'tokenizer.json': { model: { type: 'BPE' } } }), /tokenizer\.json cannot be used/);
  await reject(
    folderOf({ 'tokenizer.json': { model: { type: 'BPE', vocab: {}, merges: [] } } }),
    /tokenizer\.json.*empty vocabulary/s,
  );
  await reject(
    folderOf({ 'tokenizer.json': BPE, 'tokenizer_config.json': 'x' }),
    /tokenizer_config\.json cannot be read/,
  );
  await reject(folderOf({ 'spiece.model': 'not a model' }), /SentencePiece|spiece/);
});

t.test("the end of text of GPT-2's own kind, as Transformers' class has it", async (t) => {
  const special = async (files: { [name: string]: unknown }) => {
    const { bosTokenId, eosTokenId } = await Tokenizer.fromPretrained(folderOf({ 'tokenizer.json': BPE, ...files }));
    return [bosTokenId, eosTokenId];
  };
  const gpt2 = { model_max_length: 1024 };
  t.same(await special({}), [0, 0]);
  t.same(await special({ 'tokenizer_config.json': gpt2, 'config.json': { model_type: 'gpt2' } }), [0, 0], 'on the Hub');
  t.same(await special({ 'tokenizer_config.json': { tokenizer_class: 'GPT2TokenizerFast' } }), [0, 0]);
  t.same(await special({ 'tokenizer_config.json': { ...gpt2, eos_token: 'a' } }), [0, BPE.model.vocab.a]);
  const none = [undefined, undefined];
  t.same(await special({ 'tokenizer_config.json': { bos_token: null, eos_token: null } }), none);
  t.same(await special({ 'tokenizer_config.json': { tokenizer_class: 'PreTrainedTokenizerFast' } }), none);
  t.same(await special({ 'tokenizer_config.json': gpt2, 'config.json': { model_type: 'opt' } }), none);
  t.same(await special({ 'tokenizer.json': { ...BPE, normalizer: { type: 'NFC' } } }), none, 'not plain');
  const words = { model: { type: 'WordLevel', vocab: { a: 0 }, unk_token: 'a' } };
  t.same(await special({ 'tokenizer.json': words, 'config.json': { model_type: 'gpt2' } }), none, 'without the token');
  t.equal(Tokenizer.fromJson(BPE).eosTokenId, 0);
  t.equal(Tokenizer.fromJson(BPE, { tokenizer_class: 'PreTrainedTokenizerFast' }).eosTokenId, undefined);
});

t.test('errors name the file and keep what they know', async (t) => {
  const json = folderOf({ 'tokenizer.json': { model: { type: 'WordPiece', vocab: { a: -1 } } } });
  const damaged = await Tokenizer.fromPretrained(json).catch((error: unknown) => error);
  t.match(damaged, {
    code: 'ERR_TOKENIZER',
    message: /tokenizer\.json: .* is damaged: expected a whole number below \d+, received -1$/,
    expected: /a whole number below/,
    received: '-1',
  });
  const model = folderOf({ 'spiece.model': 'no model' });
  const other = await Tokenizer.fromPretrained(model).catch((error: unknown) => error);
  t.match(other, { code: 'ERR_TOKENIZER', message: /^\S+spiece\.model: / });
  t.ok((other as Error).message.split('spiece.model').length === 2, 'once');
});
