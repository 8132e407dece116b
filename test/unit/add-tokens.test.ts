import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { addTokens, Tokenizer } from '../../dist/index.js';
import { firstDifference } from '../../dist/tokenizer/vocabulary.js';

const folder = t.testdir();
const NEW = ['<|user|>', '<|bot|>', '言霊'];

t.test('a tokenizer.json', async (t) => {
  const base = await Tokenizer.fromPretrained('demo/tokenizer');
  const more = await addTokens('demo/tokenizer', NEW, join(folder, 'json'));
  t.equal(more.vocabSize, 2051);
  t.same(more.vocabulary.tokens.slice(2048), NEW);
  t.same(more.vocabulary.kinds.slice(2047), ['normal', 'control', 'control', 'control']);
  t.equal(more.bosTokenId, base.bosTokenId);
  const text = 'Everyone<|user|>すべての人は言霊 <|bot|>';
  const ids = more.encode(text);
  t.same(ids, [...base.encode('Everyone'), 2048, ...base.encode('すべての人は'), 2050, ...base.encode(' '), 2049]);
  t.equal(more.decode(ids), text);
  t.equal(more.decode(ids, { skipSpecialTokens: true }), 'Everyoneすべての人は ');
  t.equal(firstDifference(base.vocabulary, more.vocabulary), undefined);
  t.equal(firstDifference(more.vocabulary, base.vocabulary), 2048);
  t.not(more.fingerprint, base.fingerprint);
  const again = await addTokens(join(folder, 'json'), ['<|tool|>'], join(folder, 'json-more'));
  t.same(again.vocabulary.tokens.slice(2048), [...NEW, '<|tool|>']);
  const json = JSON.parse(readFileSync(join(folder, 'json-more/tokenizer.json'), 'utf8'));
  t.match(json.added_tokens.at(-1), { id: 2051, content: '<|tool|>', special: true, normalized: false });
});

t.test('a special token that only tokenizer_config.json names takes no id from the new ones', async (t) => {
  const source = join(folder, 'source-pad');
  mkdirSync(source);
  cpSync('demo/tokenizer/tokenizer.json', join(source, 'tokenizer.json'));
  writeFileSync(join(source, 'tokenizer_config.json'), JSON.stringify({ pad_token: '[PAD]' }));
  const more = await addTokens(source, NEW, join(folder, 'pad'));
  t.same([more.vocabSize, more.padTokenId], [2051, undefined]);
  const { added_tokens } = JSON.parse(readFileSync(join(folder, 'pad/tokenizer.json'), 'utf8'));
  const written = added_tokens.slice(-3).map(({ id, content }: { id: number; content: string }) => [id, content]);
  t.same(
    written,
    NEW.map((token, index) => [2048 + index, token]),
  );
});

t.test('a SentencePiece model', async (t) => {
  for (const name of ['unigram-nmt-nfkc', 'bpe-identity']) {
    const source = join(folder, `source-${name}`);
    mkdirSync(source);
    cpSync(`test/unit/fixtures/sentencepiece/${name}.model`, join(source, 'spiece.model'));
    const base = await Tokenizer.fromPretrained(source);
    const long = `<|${'x'.repeat(200)}|>`;
    const more = await addTokens(source, [...NEW, long], join(folder, name));
    const size = base.vocabSize;
    t.equal(more.vocabSize, size + 4);
    t.same(more.vocabulary.tokens.slice(size), [...NEW, long]);
    t.same(more.vocabulary.kinds.slice(size), ['user', 'user', 'user', 'user']);
    t.equal(firstDifference(base.vocabulary, more.vocabulary), undefined);
    for (const [text, id] of [
      ['the<|user|>', size],
      ['の言霊', size + 2],
      [`a${long}`, size + 3],
    ] as const) {
      t.equal(more.encode(text).at(-1), id, text);
      t.ok(more.decode(more.encode(text)).endsWith(more.decode([id])));
    }
    t.same(more.encode('すべての人は'), base.encode('すべての人は'));
  }
});

t.test('what cannot be added', async (t) => {
  const out = join(folder, 'none');
  const add = (tokens: string[], to = out) => addTokens('demo/tokenizer', tokens, to);
  await t.rejects(add([]), { code: 'ERR_OPTIONS', message: /no token/ });
  await t.rejects(add(['<|a|>', '']), { code: 'ERR_OPTIONS', message: /an empty one/ });
  await t.rejects(add(['<|a|>', '<|a|>']), { code: 'ERR_OPTIONS', message: /there twice/ });
  await t.rejects(add(['<|endoftext|>']), { code: 'ERR_OPTIONS', message: /has it already/ });
  await t.rejects(add(['<|a|>'], join(folder, 'json')), { code: 'ERR_OPTIONS', message: /holds a tokenizer/ });
  await t.rejects(add(['<|a|>'], 'package.json/x'), { code: 'ERR_IO' });
  await t.rejects(addTokens(folder, ['<|a|>'], out), { code: 'ERR_TOKENIZER' });
});

t.test('tokens that no text would become are refused before anything is written', async (t) => {
  for (const [name, token] of [
    ['unigram-nmt-nfkc', '<|end of turn|>'],
    ['word', '<|user|>'],
  ] as const) {
    const source = join(folder, `refused-${name}`);
    mkdirSync(source);
    cpSync(`test/unit/fixtures/sentencepiece/${name}.model`, join(source, 'spiece.model'));
    const out = join(source, 'out');
    await t.rejects(addTokens(source, ['<|a|>', token].slice(name === 'word' ? 1 : 0), out), {
      code: 'ERR_OPTIONS',
      message: /cannot be added: .*no text would become/,
    });
    t.notOk(existsSync(out));
  }
});
