import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import type { Batch } from '../../dist/data/types.js';
import { scoreChoices } from '../../dist/evaluation/multiple-choice.js';
import { evaluate, GPT2, multipleChoice, type Question, readQuestions, slidingWindows } from '../../dist/index.js';

interface Expected {
  ids: number[];
  strided: { windowSize: number; stride: number; lossSum: number; tokens: number; guide: number }[];
  lengths: number[];
  questions: { question: object; scores: number[] }[];
}
const expected: Expected = JSON.parse(readFileSync('test/unit/fixtures/evaluation/expected.json', 'utf8'));
const model = await GPT2.fromPretrained('test/unit/fixtures/model-files/hf', { device: 'cpu', threads: 1 });
t.teardown(() => model.dispose());

/** One id per byte, as make.py has it. */
const tokenizer = {
  ...{ vocabSize: 61, bosTokenId: undefined, eosTokenId: undefined, padTokenId: undefined, unkTokenId: undefined },
  encode: (text: string) => [...Buffer.from(text)].map((byte) => 3 + (byte % 58)),
  decode: () => '',
};

/** A text in batches of two blocks of `blockSize`, its end padded, as a DataLoader gives it. */
async function* batchesOf(ids: number[], blockSize: number): AsyncGenerator<Batch> {
  const rows = Math.ceil((ids.length - 1) / blockSize);
  for (let row = 0; row < rows; row += 2) {
    const shape: [number, number] = [Math.min(2, rows - row), blockSize];
    const at = (offset: number, filler: number) =>
      Int32Array.from({ length: shape[0] * blockSize }, (_, index) => {
        const place = row * blockSize + index + offset;
        return (offset === 0 && place === ids.length - 1 ? undefined : ids[place]) ?? filler;
      });
    yield { inputIds: { data: at(0, 0), shape }, labels: { data: at(1, -100), shape } };
  }
}

t.test("sliding windows measure what the loop of Hugging Face's guide measures", async (t) => {
  for (const [index, { windowSize, stride, lossSum, tokens, guide }] of expected.strided.entries()) {
    const ids = expected.ids.slice(0, expected.lengths[index]);
    for (const [blockSize, batchSize] of [
      [24, 1],
      [7, 4],
      [200, 3],
    ] as const) {
      const windows = slidingWindows(batchesOf(ids, blockSize), { windowSize, stride, batchSize });
      const found = await evaluate(model, windows);
      const name = `windows of ${windowSize} every ${stride} of ${ids.length} ids`;
      t.equal(found.tokens, tokens, name);
      t.ok(Math.abs(found.lossSum - lossSum) < 1e-5 * lossSum, `${name}: ${found.lossSum}, Transformers ${lossSum}`);
      // The guide weights the means of its windows a little differently, which shows in short texts.
      if (stride === windowSize) t.ok(Math.abs(found.loss - guide) < 1e-5, name);
      t.equal(found.loss, found.lossSum / found.tokens);
    }
  }
});

t.test('every id but the first is a label once, with enough before it', async (t) => {
  const ids = Array.from({ length: 100 }, (_, index) => index);
  const seen: number[] = [];
  for await (const { inputIds, labels } of slidingWindows(batchesOf(ids, 9), { windowSize: 16, stride: 6 })) {
    const first = labels.data.findIndex((id) => id !== -100);
    if (seen.length > 0) t.ok(first + 1 >= 10, `${first + 1} ids before the first label`);
    for (const [index, label] of labels.data.entries()) {
      if (label === -100) continue;
      seen.push(label);
      t.equal(inputIds.data[index], label - 1);
    }
  }
  t.same(seen, ids.slice(1));
});

t.test('windows: wrong options', async (t) => {
  const first = (options: object) => slidingWindows(batchesOf([1, 2, 3], 2), options as never).next();
  await t.rejects(first({ windowSize: 8, stride: 9 }), { code: 'ERR_OPTIONS', message: /stride.*from 1 to 8/ });
  await t.rejects(first({ windowSize: 1, stride: 1 }), { code: 'ERR_OPTIONS', message: /windowSize/ });
  await t.rejects(first({ windowSize: 2, stride: 1, strid: 1 }), { code: 'ERR_OPTIONS', message: /mean stride/ });
});

t.test('the first batches alone', async (t) => {
  const batches = () => batchesOf(expected.ids, 8);
  const [first] = [await batches().next()];
  const heard: Batch[] = [];
  const found = await evaluate(model, batches(), { limit: 1, onBatch: (batch) => heard.push(batch) });
  const { loss, lossSum, tokens } = await model.evaluate(first.value as Batch);
  t.same(found, { loss, lossSum, tokens, whole: true });
  t.equal(heard.length, 1);
  const stopped = await evaluate(model, batches(), { signal: AbortSignal.abort() });
  t.equal(stopped.whole, false);
  t.equal(stopped.loss, stopped.lossSum / stopped.tokens);
  const inputIds = { data: Int32Array.of(1, 2), shape: [1, 2] as [number, number] };
  const ignored = [{ inputIds, labels: { ...inputIds, data: Int32Array.of(-100, -100) } }];
  const nothing = await evaluate(model, Readable.from(ignored), { signal: AbortSignal.abort() });
  t.same(nothing, { loss: Number.NaN, lossSum: 0, tokens: 0, whole: false });
  await t.rejects(evaluate(model, batchesOf([], 8)), { code: 'ERR_DATA' });
});

const path = join(t.testdir(), 'questions.jsonl');
const lines = expected.questions.map(({ question }) => JSON.stringify(question));
await writeFile(path, `${lines.join('\n')}\n\n`);

async function all(path: string): Promise<Question[]> {
  const questions: Question[] = [];
  for await (const question of readQuestions(path)) questions.push(question);
  return questions;
}

t.test("scores of choices are Transformers'", async (t) => {
  const questions = await all(path);
  t.equal(questions.length, 6);
  for (const [index, question] of questions.entries()) {
    const { scores } = expected.questions[index];
    const found = await scoreChoices(model, tokenizer, question);
    const error = Math.max(...scores.map((score, choice) => Math.abs(score - found[choice])));
    t.ok(error < 1e-3, `${question.context}: ${found}, Transformers ${scores}`);
  }
});

t.test('accuracies', async (t) => {
  const bytes = (text: string) => Buffer.byteLength(text.trimStart());
  let right = 0;
  let rightNorm = 0;
  const questions = await all(path);
  for (const [index, { choices, answer }] of questions.entries()) {
    const { scores } = expected.questions[index];
    const norms = scores.map((score, choice) => score / bytes(choices[choice]));
    if (scores.every((score) => score <= scores[answer])) right++;
    if (norms.every((norm) => norm <= norms[answer])) rightNorm++;
  }
  t.notSame(right, rightNorm, 'the two differ here');
  const found = await multipleChoice(model, tokenizer, readQuestions(path));
  t.same(found, { accuracy: right / 6, accuracyNorm: rightNorm / 6, questions: 6, whole: true });
  t.match(await multipleChoice(model, tokenizer, questions, { limit: 2 }), { questions: 2, whole: true });
  const { questions: asked } = await multipleChoice(model, tokenizer, questions, { limit: Number.POSITIVE_INFINITY });
  t.ok(asked > 2, 'all');
  const stopped = await multipleChoice(model, tokenizer, questions, { signal: AbortSignal.abort() });
  t.match(stopped, { questions: 1, whole: false });
  await t.rejects(multipleChoice(model, tokenizer, []), { code: 'ERR_DATA', message: /no question/ });
  const [good] = questions as [Question];
  for (const [wrong, message] of [
    [{ ...good, choices: [' one'] }, /Question 2: choices: expected at least two strings/],
    [{ ...good, choices: ' one' }, /Question 2: choices/],
    [{ ...good, answer: good.choices.length }, /Question 2: answer: expected the number of the right one, from 0/],
    [{ ...good, context: undefined }, /Question 2: context: expected a string/],
    [undefined, /Question 2: context/],
  ] as const) {
    await t.rejects(multipleChoice(model, tokenizer, [good, wrong as never]), { code: 'ERR_DATA', message });
  }
});

t.test('where a choice begins', async (t) => {
  // Pairs of letters are one id: the seam may be inside one.
  const pairs = {
    ...tokenizer,
    bosTokenId: 1,
    encode: (text: string) =>
      (text.match(/..?/gs) ?? []).map((pair) => 3 + ((pair.charCodeAt(0) * 7 + (pair.charCodeAt(1) || 0)) % 58)),
  };
  const sum = async (ids: number[], from: number) => {
    const { logits } = await model.forward({ inputIds: [ids.slice(0, -1)] });
    let total = 0;
    for (let place = from; place < ids.length; place++) {
      const row = logits.data.subarray((place - 1) * 61, place * 61);
      total += row[ids[place]] - Math.log(row.reduce((all, logit) => all + Math.exp(logit), 0));
    }
    return total;
  };
  const near = (a: number, b: number, name: string) => t.ok(Math.abs(a - b) < 1e-3, `${name}: ${a}, ${b}`);
  const [across] = await scoreChoices(model, pairs, { context: 'abc', choices: ['de', 'f'] });
  near(across, await sum(pairs.encode('abcde'), 1), 'the id that reaches over the seam counts');
  const [empty] = await scoreChoices(model, pairs, { context: '', choices: ['abcd', 'f'] });
  near(empty, await sum([1, ...pairs.encode('abcd')], 1), 'after the id that begins a text');
  const bare = await GPT2.create({ vocabSize: 61, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4 }, { device: 'cpu' });
  const nothing = scoreChoices(bare, tokenizer, { context: '', choices: ['a', 'b'] });
  await t.rejects(nothing, { code: 'ERR_DATA', message: /"a" cannot be measured/ });
  await bare.dispose();
});

t.test('a choice that is longer than the context is refused; the context alone is shortened', async (t) => {
  const { nPositions } = model.config;
  const choices = ['a'.repeat(nPositions), 'b'.repeat(nPositions + 1)];
  const [whole] = await scoreChoices(model, tokenizer, { context: 'xyz', choices: choices.slice(0, 1) });
  const ids = [...tokenizer.encode('z'), ...tokenizer.encode(choices[0])];
  const { lossSum } = await model.evaluate({ inputIds: [ids.slice(0, -1)], labels: [ids.slice(1)] });
  t.ok(Math.abs(whole + lossSum) < 1e-3, `${whole}, ${-lossSum}`);
  await t.rejects(scoreChoices(model, tokenizer, { context: 'xyz', choices }), {
    code: 'ERR_DATA',
    message: new RegExp(`"bbb.*is too long: expected at most ${nPositions} tokens.*received ${nPositions + 1}`),
  });
});

t.test('weights that hold NaN measure nothing', async (t) => {
  const broken = await GPT2.create({ vocabSize: 61, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 8 }, { device: 'cpu' });
  t.teardown(() => broken.dispose());
  await broken.writeTensor('transformer.ln_f.bias', new Float32Array(4).fill(Number.NaN));
  const wrong = { code: 'ERR_NON_FINITE', message: /loss is NaN/ };
  const heard: Batch[] = [];
  await t.rejects(evaluate(broken, batchesOf([1, 2, 3], 8), { onBatch: (batch) => heard.push(batch) }), wrong);
  t.equal(heard.length, 0);
  await t.rejects(multipleChoice(broken, tokenizer, [{ context: 'a', choices: ['b', 'c'], answer: 0 }]), wrong);
});

t.test('wrong options of measurements', async (t) => {
  const cases: [object, RegExp][] = [
    [{ limit: 0 }, /limit: expected an integer of at least 1, received 0/],
    [{ limit: Number.NaN }, /limit/],
    [{ limt: 1 }, /did you mean limit/],
    [{ signal: 3 }, /signal: expected an AbortSignal/],
  ];
  for (const [options, message] of cases) {
    const wrong = { code: 'ERR_OPTIONS', message };
    await t.rejects(evaluate(model, batchesOf(expected.ids, 8), options), wrong);
    await t.rejects(multipleChoice(model, tokenizer, await all(path), options), wrong);
  }
  const heard = evaluate(model, batchesOf(expected.ids, 8), { onBatch: 3 as never });
  await t.rejects(heard, { code: 'ERR_OPTIONS', message: /onBatch/ });
});

t.test('measurements without what they need', async (t) => {
  const wrong = { name: 'KotodamaError', code: 'ERR_OPTIONS' };
  const batches = batchesOf(expected.ids, 8);
  await t.rejects(evaluate(model, undefined as never), { ...wrong, message: /batches: .*received undefined/ });
  await t.rejects(evaluate(Promise.resolve(model) as never, batches), { ...wrong, message: /model: .*await missing/ });
  await t.rejects(evaluate(model, batches, null as never), { ...wrong, message: /options/ });
  await t.rejects(multipleChoice(undefined as never, undefined as never, undefined as never), {
    ...wrong,
    message: /3 problems\n {2}model: .*\n {2}tokenizer: .*\n {2}questions: /,
  });
});

t.test('files of questions', async (t) => {
  const packed = join(t.testdir(), 'q.jsonl.gz');
  await writeFile(packed, gzipSync(lines.join('\r\n')));
  t.same(await all(packed), await all(path));
  const cases: [string, RegExp][] = [
    ['{"context": "a"', /bad.jsonl, line 2, is not JSON/],
    ['[1]', /line 2, is no question: expected a JSON object, received an array of 1/],
    ['{"choices": ["a", "b"], "answer": 0}', /context: expected a string, received undefined/],
    ['{"context": "a", "choices": ["a"], "answer": 0}', /choices: expected at least two/],
    ['{"context": "a", "choices": ["a", ""], "answer": 0}', /choices: expected at least two/],
    ['{"context": "a", "choices": ["a", "b"], "answer": 2}', /answer: expected the number.*0 to 1, received 2/],
    ['{"context": "a", "choices": ["a", "b"], "answer": "x"}', /answer/],
    ['{"ctx": "a", "endings": ["a", "b"], "label": ""}', /label.*received ''/],
    ['{"ctx": 3, "endings": ["a", "b"], "label": 0}', /ctx: expected a string, received 3/],
  ];
  const bad = join(t.testdir(), 'bad.jsonl');
  for (const [line, message] of cases) {
    await writeFile(bad, `${lines[0]}\n${line}\n`);
    await t.rejects(all(bad), { code: 'ERR_DATA', message });
  }
  await t.rejects(all(join(t.testdir(), 'none.jsonl')), { code: 'ERR_IO' });
});
