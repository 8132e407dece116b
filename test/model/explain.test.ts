import { join } from 'node:path';
import t from 'tap';
import { type Explanation, GPT2, Tokenizer } from '../../dist/index.js';

const tokenizer = await Tokenizer.fromPretrained('demo/tokenizer');
const sizes = { vocabSize: tokenizer.vocabSize, nLayer: 2, nHead: 2, nEmbd: 16, nPositions: 32 };
const model = await GPT2.create({ ...sizes, initializerRange: 0.5 }, { device: 'cpu', seed: 3 });
t.teardown(() => model.dispose());

const TEXT = 'All human beings 人間は\nfree';

t.test('losses are those of evaluate, predictions those of forward', async (t) => {
  const ids = tokenizer.encode(TEXT);
  const { tokens, loss, guessLoss } = await model.explain(TEXT, { tokenizer, topK: 3 });
  t.same(
    tokens.map(({ id }) => id),
    ids,
  );
  const evaluated = await model.evaluate({ inputIds: [ids.slice(0, -1)], labels: [ids.slice(1)] });
  t.ok(Math.abs((loss as number) - evaluated.loss) < 1e-5, `${loss} and ${evaluated.loss}`);
  t.equal(guessLoss, Math.log(tokenizer.vocabSize));

  const { logits } = await model.forward({ inputIds: [ids] });
  t.match(tokens[0], { loss: null, probability: null, rank: null });
  for (const [position, token] of tokens.entries()) {
    const row = Array.from(logits.data.subarray(position * sizes.vocabSize, (position + 1) * sizes.vocabSize));
    const total = row.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const order = row.map((logit, id) => ({ id, logit })).sort((a, b) => b.logit - a.logit);
    t.same(
      token.next.map(({ id }) => id),
      order.slice(0, 3).map(({ id }) => id),
    );
    for (const { id, probability } of token.next) t.ok(Math.abs(probability - Math.exp(row[id]!) / total) < 1e-6);
    const following = tokens[position + 1];
    if (following === undefined) continue;
    t.equal(following.rank, 1 + order.findIndex(({ id }) => id === following.id));
    t.ok(Math.abs((following.probability as number) - Math.exp(-(following.loss as number))) < 1e-12);
    t.ok(Math.abs((following.probability as number) - Math.exp(row[following.id]!) / total) < 1e-6);
  }
});

t.test('the attention of all heads, of a layer, of a head', async (t) => {
  const ids = tokenizer.encode(TEXT);
  const heads = ({ attention }: Explanation) => attention.map(({ layer, head }) => [layer, head]);
  const all = await model.explain(TEXT, { tokenizer });
  t.same(heads(all), [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ]);
  t.same(heads(await model.explain(TEXT, { tokenizer, layer: 1 })), [
    [1, 0],
    [1, 1],
  ]);
  const one = await model.explain(TEXT, { tokenizer, layer: 1, head: 0 });
  t.same(one.attention, [all.attention[2]]);

  const { probabilities } = await model.attention({ inputIds: [ids], layer: 1 });
  const length = ids.length;
  const square = Array.from({ length }, (_, row) =>
    Array.from(probabilities.data.subarray(row * length, row * length + row + 1)),
  );
  t.same(Array.from(one.attention[0]!.weights), square.flat());
});

t.test('the tokens say the text; a character in several tokens says so', async (t) => {
  for (const text of [TEXT, '魑魅魍魎が 😀 🇯🇵。', ' leading, <|endoftext|>special', 'é\u0301\u200b\u3000']) {
    const { tokens } = await model.explain(text, { tokenizer, topK: 1 });
    t.equal(tokens.map((token) => token.text).join(''), tokenizer.decode(tokenizer.encode(text)));
    t.equal(tokens.at(-1)?.partial, false);
    for (const token of tokens) t.notMatch(token.text, '\uFFFD');
  }
  const { tokens } = await model.explain('魑', { tokenizer, topK: 1 });
  t.ok(tokens.length > 1, 'a rare character takes several tokens');
  t.same(
    tokens.map(({ partial }) => partial),
    tokens.map((_, index) => index < tokens.length - 1),
  );
  t.equal(tokens.at(-1)?.text, '魑');
});

t.test('a SentencePiece tokenizer: the space before the first word is not its text', async (t) => {
  const pieces = await Tokenizer.fromPretrained(
    t.testdir({
      'spiece.model': t.fixture(
        'symlink',
        join(process.cwd(), 'test/unit/fixtures/sentencepiece/unigram-identity.model'),
      ),
    }),
  );
  const other = await GPT2.create({ ...sizes, vocabSize: pieces.vocabSize + 3 }, { device: 'cpu', seed: 3 });
  t.teardown(() => other.dispose());
  const text = 'hello world';
  const { tokens } = await other.explain(text, { tokenizer: pieces, topK: pieces.vocabSize + 3 });
  t.equal(tokens.map((token) => token.text).join(''), pieces.decode(pieces.encode(text)));
  t.equal(tokens[0]?.next.length, pieces.vocabSize + 3);
  t.same(
    tokens[0]?.next.filter(({ id }) => id >= pieces.vocabSize).map((next) => next.text),
    ['', '', ''],
    'ids that the model has to round up have no text',
  );
  const sum = tokens[0]?.next.reduce((total, { probability }) => total + probability, 0) ?? 0;
  t.ok(Math.abs(sum - 1) < 1e-9);
});

t.test('one token is enough', async (t) => {
  const { tokens, loss, attention } = await model.explain('a', { tokenizer });
  t.equal(tokens.length, 1);
  t.equal(loss, null);
  t.equal(tokens[0]?.next.length, 10);
  t.equal(attention[0]?.weights.length, 1);
  t.ok(Math.abs((attention[0]?.weights[0] as number) - 1) < 1e-5);
});

t.test('what cannot be explained', async (t) => {
  const cases: [unknown, object, RegExp][] = [
    ['', { tokenizer }, /length of the text: expected 1 to 32 tokens, the model's context, received 0/],
    ['a '.repeat(40), { tokenizer }, /expected 1 to 32 tokens.*received \d+\n.*a part of it/s],
    [7, { tokenizer }, /text: expected a string, received 7/],
    ['a', {}, /tokenizer: expected a tokenizer, received undefined/],
    ['a', { tokenizer, topK: 0 }, /topK/],
    ['a', { tokenizer, layer: 2 }, /layer: expected an integer from 0 to 1, received 2/],
    ['a', { tokenizer, head: -1 }, /head: expected an integer from 0 to 1, received -1/],
    ['a', { tokenizer, heads: 1 }, /did you mean head\?/],
  ];
  for (const [text, options, message] of cases) {
    await t.rejects(model.explain(text as string, options as never), { code: 'ERR_OPTIONS', message });
  }
});

t.test('more weights than one page could show', async (t) => {
  const many = { vocabSize: tokenizer.vocabSize, nLayer: 17, nHead: 2, nEmbd: 2, nPositions: 1024 };
  const long = await GPT2.create(many, { device: 'cpu', seed: 3 });
  t.teardown(() => long.dispose());
  const text = 'a'.repeat(1024).replaceAll('aa', 'a\n');
  const length = tokenizer.encode(text).length;
  t.ok((34 * length * (length + 1)) / 2 > 2 ** 24, `${length} tokens`);
  await t.rejects(long.explain(text, { tokenizer }), {
    code: 'ERR_OPTIONS',
    message: /the attention of 34 heads over \d+ tokens.*choose a layer, or give a shorter text/s,
  });
  t.equal((await long.explain(text, { tokenizer, layer: 16, head: 0, topK: 1 })).attention.length, 1);
});

t.test('weights that are no numbers', async (t) => {
  const broken = await GPT2.create(sizes, { device: 'cpu' });
  t.teardown(() => broken.dispose());
  await broken.writeTensor('transformer.ln_f.weight', new Float32Array(16).fill(Number.NaN));
  await t.rejects(broken.explain('ab', { tokenizer }), { code: 'ERR_NON_FINITE' });
});

t.test('others get their turn between two positions', async (t) => {
  let turn = 0;
  let ended = false;
  const count = () => {
    turn++;
    if (!ended) setImmediate(count);
  };
  count();
  const turns = new Set<number>();
  const watched = {
    vocabSize: tokenizer.vocabSize,
    ...{ bosTokenId: undefined, eosTokenId: undefined, padTokenId: undefined, unkTokenId: undefined },
    encode: (text: string) => tokenizer.encode(text),
    decode(ids: ArrayLike<number>) {
      turns.add(turn);
      return tokenizer.decode(ids);
    },
  };
  const { tokens } = await model.explain(TEXT, { tokenizer: watched });
  ended = true;
  t.equal(turns.size, tokens.length);
});
