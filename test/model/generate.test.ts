import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { GPT2 } from '../../dist/index.js';
import { vulnerable } from './vulnerable.js';

const fixtures = 'test/unit/fixtures/model-files';
const expected: { prompt: number[]; greedy: number[]; penalized: number[] } = JSON.parse(
  await readFile(join(fixtures, 'expected.json'), 'utf8'),
);
const model = await GPT2.fromPretrained(join(fixtures, 'hf'), { device: 'cpu' });
t.teardown(() => model.dispose());

/** UTF-8 bytes of three characters as ids: most texts are broken characters, as those of an untrained model are. */
const ALPHABET = [...Buffer.from('a魂')];
const tokenizer = {
  ...{ vocabSize: 61, bosTokenId: 1, eosTokenId: undefined, padTokenId: undefined, unkTokenId: undefined },
  encode: (text: string) => [...Buffer.from(text)].map((byte) => 3 + ALPHABET.indexOf(byte)),
  decode: (ids: ArrayLike<number>) =>
    Buffer.from(Array.from(ids).flatMap((id) => (id < 3 ? [] : [ALPHABET[(id - 3) % ALPHABET.length]]))).toString(),
};

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Logits of what follows, by a full forward pass. */
async function logitsAfter(ids: number[]): Promise<Float32Array> {
  const { logits } = await model.forward({ inputIds: [ids] });
  return logits.data.subarray(logits.data.length - 61);
}

/** The likeliest next id. */
async function next(ids: number[]): Promise<number> {
  const last = await logitsAfter(ids);
  return last.indexOf(last.reduce((a, b) => Math.max(a, b)));
}

t.test("greedy ids are Transformers' own, up to the end of the context", async (t) => {
  const options = { temperature: 0, maxNewTokens: expected.greedy.length };
  t.same(await collect(model.generateIds(expected.prompt, options)), expected.greedy);
  t.same(await collect(model.generateIds(Int32Array.from(expected.prompt), options)), expected.greedy);
});

t.test('a tokenizer with ids that the model lacks is refused wherever the two meet', async (t) => {
  const larger = { ...tokenizer, vocabSize: 62 };
  const wanted = { code: 'ERR_TOKENIZER', expected: 'at most 61 ids', received: '62' };
  await t.rejects(collect(model.generate('a', { tokenizer: larger })), wanted);
  await t.rejects(collect(model.generateSamples('a', { tokenizer: larger, numSamples: 2 })), wanted);
  await t.rejects(model.explain('a', { tokenizer: larger }), wanted);
  const folder = join(t.testdir(), 'saved');
  await t.rejects(model.savePretrained(folder, { tokenizer: larger }), wanted);
  t.notOk(existsSync(folder), 'nothing is written');
  await t.resolves(model.explain('a', { tokenizer: { ...tokenizer, vocabSize: 60 } }), 'one with fewer ids');
  // As `add_special_tokens({ pad_token: '[PAD]' })` in Python leaves it, where the model was not resized.
  const kinds = Array.from({ length: 62 }, (_, id) => (id < 61 ? 'normal' : 'control'));
  const padded = { ...larger, vocabulary: { tokens: [], kinds, method: undefined } };
  await t.resolves(model.explain('a', { tokenizer: padded }), 'one with a special token more');
});

t.test('beyond the context the newer half stays', async (t) => {
  const found = await collect(
    model.generateIds(expected.prompt, { temperature: 0, maxNewTokens: 60, eosTokenId: null }),
  );
  t.equal(found.length, 60);
  let context = [...expected.prompt];
  for (const [index, id] of found.entries()) {
    t.equal(id, await next(context), `id ${index}`);
    context.push(id);
    if (context.length > 24) context = context.slice(-12);
  }
});

t.test('int8: nearly the same choices, and the same ids again', async (t) => {
  const options = { temperature: 0, maxNewTokens: 60, eosTokenId: null, int8: true };
  const found = await collect(model.generateIds(expected.prompt, options));
  t.equal(found.length, 60);
  t.same(await collect(model.generateIds(expected.prompt, options)), found);
  t.same(found[0], expected.greedy[0], 'the first one follows the prompt, which is read with the weights themselves');
  // Past the context too: a little less than the best is all that eight bits may choose.
  let context = [...expected.prompt];
  for (const [index, id] of found.entries()) {
    const last = await logitsAfter(context);
    const best = last.reduce((a, b) => Math.max(a, b));
    const least = last.reduce((a, b) => Math.min(a, b));
    t.ok((best - (last[id] as number)) / (best - least) < 0.05, `id ${index}`);
    context.push(id);
    if (context.length > 24) context = context.slice(-12);
  }
  const damaged = await vulnerable();
  t.teardown(() => damaged.dispose());
  const write = (int8: boolean) => collect(damaged.generateIds([1, 2, 3], { temperature: 0, eosTokenId: null, int8 }));
  t.notSame(await write(true), await write(false), 'weights of eight bits are what it computes with');
  await t.rejects(collect(model.generateIds([1], { int8: 'yes' as unknown as boolean })), {
    code: 'ERR_OPTIONS',
    message: /int8/,
  });
});

t.test('a prompt longer than the context counts by its end', async (t) => {
  const long = Array.from({ length: 40 }, (_, index) => (index * 7) % 61);
  const [id] = await collect(model.generateIds(long, { temperature: 0, maxNewTokens: 1, eosTokenId: null }));
  t.equal(id, await next(long.slice(-24)));
  for (const wrong of [-1, 61, Number.NaN, 'length' as never]) {
    const ids = collect(model.generateIds([wrong, ...long], { maxNewTokens: 1, repetitionPenalty: 2 }));
    await t.rejects(ids, { code: 'ERR_OPTIONS', message: /row 0, column 0/ }, 'all of it is looked at');
  }
});

t.test('equal seeds give equal ids', async (t) => {
  const draw = (seed: number) =>
    collect(model.generateIds(expected.prompt, { seed, temperature: 1.5, topK: 40, topP: 0.95, eosTokenId: null }));
  const first = await draw(3);
  t.equal(first.length, 64);
  t.same(await draw(3), first);
  t.notSame(await draw(4), first);
});

t.test('topK: 0 chooses among all ids, as no topK does', async (t) => {
  const draw = (options: object) => collect(model.generateIds(expected.prompt, { temperature: 1.5, ...options }));
  t.same(await draw({ topK: 0 }), await draw({}));
  t.notSame(await draw({ topK: 1 }), await draw({}));
  await t.rejects(draw({ topK: -1 }), { code: 'ERR_OPTIONS', message: /topK: expected an integer of at least 0/ });
});

t.test('several texts in one batch are those of their seeds alone, beyond the context too', async (t) => {
  const options = { tokenizer, maxNewTokens: 120, temperature: 1.5, topK: 40, minP: 0.02, repetitionPenalty: 1.1 };
  const texts = ['', '', ''];
  const order: number[] = [];
  for await (const { sample, text } of model.generateSamples('a魂', { ...options, seed: 8, numSamples: 3 })) {
    texts[sample] += text;
    order.push(sample);
  }
  const alone: string[] = [];
  for (const seed of [8, 9, 10]) alone.push((await collect(model.generate('a魂', { ...options, seed }))).join(''));
  t.same(texts, alone);
  t.equal(new Set(alone).size, 3);
  t.notSame(order, [...order].sort(), 'they come in turn');

  const none = { ...options, numSamples: 0 };
  await t.rejects(collect(model.generateSamples('a', none)), { code: 'ERR_OPTIONS', message: /numSamples/ });
  const one = { ...options, numSamples: 2 } as object;
  await t.rejects(collect(model.generate('a', one as never)), { code: 'ERR_OPTIONS', message: /numSamples/ });
});

t.test('each text of a batch ends by itself', async (t) => {
  const options = { tokenizer, maxNewTokens: 40, temperature: 2, eosTokenId: 7, seed: 3 };
  const stop = ['aa'];
  const texts = Array.from({ length: 8 }, () => '');
  for await (const { sample, text } of model.generateSamples('a', { ...options, stop, numSamples: 8 })) {
    texts[sample] += text;
  }
  const lengths = new Set<number>();
  for (const [index, text] of texts.entries()) {
    const alone = await collect(model.generate('a', { ...options, stop, seed: 3 + index }));
    t.equal(text, alone.join(''), `sample ${index}`);
    lengths.add(text.length);
  }
  t.ok(lengths.size > 3, `different lengths: ${[...lengths]}`);
});

t.test("the repetition penalty knows the prompt: Transformers' first ids under it", async (t) => {
  const plain = await collect(model.generateIds(expected.prompt, { temperature: 0, maxNewTokens: 21 }));
  const options = { temperature: 0, maxNewTokens: 21, eosTokenId: null };
  const found = await collect(model.generateIds(expected.prompt, { ...options, repetitionPenalty: 1.8 }));
  t.same(found, expected.penalized);
  t.notSame(found, plain);
});

t.test('ends at the end id, which is not yielded', async (t) => {
  const end = expected.greedy[2];
  const before = expected.greedy.slice(0, expected.greedy.indexOf(end));
  t.same(await collect(model.generateIds(expected.prompt, { temperature: 0, eosTokenId: end })), before);
  t.same(await collect(model.generateIds(expected.prompt, { temperature: 0, maxNewTokens: 0 })), []);
});

t.test('an empty prompt begins with the id that begins a text', async (t) => {
  const options = { temperature: 0, maxNewTokens: 5 };
  t.same(await collect(model.generateIds([], options)), await collect(model.generateIds([1], options)));
  const bare = await GPT2.create({ vocabSize: 8, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4 }, { device: 'cpu' });
  await t.rejects(collect(bare.generateIds([])), { code: 'ERR_OPTIONS', message: /prompt is empty/ });
  await bare.dispose();
});

t.test('text comes in whole characters and equals the decoded ids', async (t) => {
  const options = { tokenizer, seed: 5, maxNewTokens: 200, temperature: 2, eosTokenId: null };
  const pieces = await collect(model.generate('a魂', options));
  const ids = await collect(model.generateIds(tokenizer.encode('a魂'), { ...options, tokenizer: undefined } as object));
  t.ok(pieces.length > 10, `${pieces.length} pieces`);
  const whole = tokenizer.decode(ids);
  let end = 0;
  for (const piece of pieces) {
    end += piece.length;
    // No byte of a character is that far before its end.
    if (piece.endsWith('\uFFFD')) t.match(whole.slice(end), /^\uFFFD{2}/);
  }
  t.equal(pieces.join(''), whole.replace(/\uFFFD{1,3}$/, ''));
});

t.test('stop strings', async (t) => {
  const options = { tokenizer, seed: 5, maxNewTokens: 200, temperature: 2, eosTokenId: null };
  const text = (await collect(model.generate('a', options))).join('');
  const stop = text.slice(10, 13);
  const stopped = (await collect(model.generate('a', { ...options, stop: [stop] }))).join('');
  t.equal(stopped, text.slice(0, text.indexOf(stop)));
});

t.test('an AbortSignal ends it, and the model goes on', async (t) => {
  const abort = new AbortController();
  const seen: number[] = [];
  const run = async () => {
    for await (const id of model.generateIds(expected.prompt, { signal: abort.signal, temperature: 0 })) {
      seen.push(id);
      if (seen.length === 3) abort.abort();
    }
  };
  await t.rejects(run(), { code: 'ERR_ABORTED' });
  t.same(seen, expected.greedy.slice(0, 3));
  await t.rejects(collect(model.generateIds([3], { signal: AbortSignal.abort() })), { code: 'ERR_ABORTED' });
  for await (const id of model.generateIds(expected.prompt, { temperature: 0 })) {
    t.equal(id, expected.greedy[0]);
    break;
  }
  t.equal(await next(expected.prompt), expected.greedy[0]);
});

t.test('wrong options are named together', async (t) => {
  const wrong = { temperature: -1, topk: 3, topP: 0, maxNewTokens: 1.5, signal: 3, minP: 2, repetitionPenalty: 0 };
  const names = [/temperature/, /did you mean topK/, /topP/, /maxNewTokens/, /signal/, /minP/, /repetitionPenalty/];
  const patterns = [/7 problems/, ...names];
  for (const message of patterns) {
    await t.rejects(collect(model.generateIds([3], wrong as never)), { code: 'ERR_OPTIONS', message });
  }
  await t.rejects(collect(model.generateIds([61])), { code: 'ERR_OPTIONS', message: /id from 0 to 60, received 61/ });
  await t.rejects(collect(model.generate('a', {} as never)), { code: 'ERR_OPTIONS', message: /tokenizer/ });
  await t.rejects(collect(model.generate('a', undefined as never)), { code: 'ERR_OPTIONS', message: /tokenizer/ });
  await t.rejects(collect(model.generate(3 as never, { tokenizer })), { code: 'ERR_OPTIONS', message: /prompt/ });
  await t.rejects(collect(model.generate('a', { tokenizer, stop: [''] })), { code: 'ERR_OPTIONS', message: /stop/ });
  for (const eosTokenId of ['x', 1e9, -1]) {
    const options = { eosTokenId: eosTokenId as never };
    await t.rejects(collect(model.generateIds([3], options)), { code: 'ERR_OPTIONS', message: /eosTokenId.*0 to 60/ });
  }
  await t.rejects(collect(model.generateIds(undefined as never)), {
    code: 'ERR_OPTIONS',
    message: /prompt.*array of ids/,
  });
  const many = collect(model.generateSamples('a', { tokenizer, numSamples: 1e7 }));
  await t.rejects(many, { code: 'ERR_OPTIONS', message: /numSamples.*1 to 1024/ });
  const draw = (seed: number) =>
    collect(model.generateSamples('a', { tokenizer, numSamples: 3, seed, maxNewTokens: 1 }));
  const last = Number.MAX_SAFE_INTEGER - 2;
  await draw(last);
  const beyond = new RegExp(`seed: expected at most ${last} for 3 texts, received ${last + 1}`);
  await t.rejects(draw(last + 1), { code: 'ERR_OPTIONS', message: beyond });
});
