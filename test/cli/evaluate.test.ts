import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  BlockDataset,
  DataLoader,
  evaluate,
  GPT2,
  multipleChoice,
  slidingWindows,
  Tokenizer,
  trainTokenizer,
} from '../../dist/index.js';
import { kotodama, TOKENIZER, workplace } from './program.js';

const cwd = workplace(t);
const tokenizer = await Tokenizer.fromPretrained(TOKENIZER);
const model = await GPT2.create(
  { vocabSize: tokenizer.vocabSize, nPositions: 16, nEmbd: 16, nHead: 2, nLayer: 1, initializerRange: 0.3 },
  { device: 'cpu', threads: 1, seed: 2 },
);
t.teardown(() => model.dispose());
await model.savePretrained(join(cwd, 'model'), { tokenizer });
const run = (...words: string[]) =>
  kotodama(['evaluate', '--model', 'model', '--device', 'cpu', '--threads', '1', ...words], { cwd });

/** The texts' bytes without the ends of the lines. */
const bytes = Buffer.byteLength(readFileSync(join(cwd, 'valid.txt'), 'utf8').replaceAll('\n', ''));
const loader = (blockSize = 16) => {
  const blocks = BlockDataset.fromFile(join(cwd, 'valid.txt'), { tokenizer, blockSize, dropLast: false });
  return new DataLoader(blocks, { batchSize: 3 });
};

t.test('the whole text, and overlapping blocks', async (t) => {
  const [plain, strided, text] = await Promise.all([
    run('--data', 'valid.txt', '--json'),
    run('--data', 'valid.txt', '--json', '--stride', '5'),
    run('--data', 'valid.txt'),
  ]);
  const windows = slidingWindows(loader(), { windowSize: 16, stride: 5 });
  for (const [outcome, { lossSum, tokens }] of [
    [plain, await evaluate(model, loader())],
    [strided, await evaluate(model, windows)],
  ] as const) {
    t.equal(outcome.code, 0, outcome.stderr);
    const found = JSON.parse(outcome.stdout);
    t.match(found, { tokens, bytes });
    t.ok(Math.abs(found.loss - lossSum / tokens) < 1e-6);
    t.ok(Math.abs(found.perplexity - Math.exp(lossSum / tokens)) < 1e-6 * found.perplexity);
    t.ok(Math.abs(found.bitsPerByte - lossSum / Math.LN2 / bytes) < 1e-6);
  }
  t.notSame(JSON.parse(plain.stdout).loss, JSON.parse(strided.stdout).loss);
  t.match(
    text.stdout,
    /^loss +\d+\.\d{4} nats per token\nperplexity +[\d.]+\nbits per byte [\d.]+ .*\nmeasured on +\d+ tokens/,
  );
});

t.test('the first batches, and token files, say how long their tokens are as text', async (t) => {
  const made = await kotodama(['tokenize', '--tokenizer', TOKENIZER, '--input', 'valid.txt', '--output', 'v.bin'], {
    cwd,
  });
  t.equal(made.code, 0, made.stderr);
  const [part, tokens] = await Promise.all([
    run('--data', 'valid.txt', '--json', '--limit', '1'),
    run('--data', 'v.bin', '--json'),
  ]);
  const ids: number[] = [];
  for await (const { inputIds, labels } of loader()) {
    // No label stands for the first token, but the text that is measured begins with it.
    if (ids.length === 0) ids.push(inputIds.data[0] as number);
    ids.push(...labels.data.filter((id) => id >= 0));
  }
  const first = { tokens: 48, bytes: Buffer.byteLength(tokenizer.decode(ids.slice(0, 49))) };
  t.match(JSON.parse(part.stdout), first);
  t.equal(JSON.parse(tokens.stdout).bytes, bytes);
});

t.test('a tokenizer that changes text tells no bytes of its ids', async (t) => {
  const text = Array.from({ length: 20 }, (_, index) => `（第${index}回）「ＡＢＣ」は①番です。`);
  writeFileSync(join(cwd, 'wide.txt'), text.join('\n'));
  const unigram = await trainTokenizer({ files: [join(cwd, 'wide.txt')], type: 'unigram', vocabSize: 50 });
  await unigram.save(join(cwd, 'unigram'));
  const small = { vocabSize: unigram.vocabSize, nPositions: 16, nEmbd: 8, nHead: 1, nLayer: 1 };
  const wide = await GPT2.create(small, { device: 'cpu', threads: 1 });
  t.teardown(() => wide.dispose());
  await wide.savePretrained(join(cwd, 'wide'), { tokenizer: await Tokenizer.fromPretrained(join(cwd, 'unigram')) });
  await kotodama(['tokenize', '--tokenizer', 'unigram', '--input', 'wide.txt', '--output', 'wide.bin'], { cwd });
  const own = (...words: string[]) => run('--model', 'wide', ...words);
  const [whole, longer, part, tokens, shown] = await Promise.all([
    own('--data', 'wide.txt', '--json'),
    own('--data', 'wide.txt', '--json', '--limit', '10000'),
    own('--data', 'wide.txt', '--json', '--limit', '1'),
    own('--data', 'wide.bin', '--json'),
    own('--data', 'wide.bin'),
  ]);
  const expected = JSON.parse(whole.stdout);
  t.equal(expected.bytes, Buffer.byteLength(text.join('')));
  t.same(JSON.parse(longer.stdout), expected);
  for (const { stdout } of [part, tokens]) t.match(JSON.parse(stdout), { bytes: null, bitsPerByte: null });
  t.match(shown.stdout, /^loss .*\nperplexity .*\nmeasured on +\d+ tokens; their bytes of text are not known: /);
});

t.test('Ctrl-C while the standard input is silent', async (t) => {
  const text = readFileSync(join(cwd, 'valid.txt'), 'utf8').repeat(1000);
  const words = [
    'evaluate',
    '--model',
    'model',
    '--device',
    'cpu',
    '--threads',
    '1',
    '--skip-bad',
    '--data',
    '-',
    '--batch-size',
    '64',
  ];
  let sent = false;
  const ended = await kotodama(words, {
    cwd,
    // It stays open. The bad line, in the first of some pieces of 128 KiB, tells that it is being read.
    onStart: (child) => child.stdin?.write(Buffer.concat([Buffer.from([0xff, 0x0a]), Buffer.from(text)])),
    onError: (stderr, child) => {
      if (sent || !stderr.includes('left out: ')) return;
      sent = true;
      // Should it measure still, it has to do the same.
      setTimeout(() => child.kill('SIGINT'), 1000);
    },
  });
  t.match(ended, { code: 130, signal: null, stdout: '' }, ended.stderr);
  t.match(ended.stderr, /^finishing what is being measured; once more stops at once$/m);
});

t.test('questions', async (t) => {
  const questions = [
    { context: 'Everyone has', choices: [' the right', ' a cat'], answer: 0 },
    { context: 'All human', choices: [' beings are born free', ' is', ' dogs'], answer: 2 },
    { context: 'All', choices: [' a', ' b'], answer: 1 },
  ];
  writeFileSync(join(cwd, 'q.jsonl'), `\ufeff${questions.map((question) => JSON.stringify(question)).join('\n')}`);
  const { whole: _, ...expected } = await multipleChoice(model, tokenizer, questions);
  const [json, text] = await Promise.all([
    run('--multiple-choice', 'q.jsonl', '--json'),
    run('--multiple-choice', 'q.jsonl', '--limit', '2'),
  ]);
  t.same(JSON.parse(json.stdout), expected);
  t.match(text.stdout, /^accuracy +[\d.]+ %\naccuracy, by length [\d.]+ % .*\nmeasured on +2 questions\n$/);
});

t.test('what does not fit is named with its flag', async (t) => {
  writeFileSync(join(cwd, 'one.jsonl'), '{"context": "a", "choices": [" b", " c"], "answer": 0}');
  const texts = ['--block-size', '9', '--batch-size', '2', '--eos', 'line', '--text-field', 'zz', '--skip-bad'];
  const [neither, both, long, far, idle, short] = await Promise.all([
    run(),
    run('--data', 'valid.txt', '--multiple-choice', 'none.jsonl', '--stride', '2'),
    run('--data', 'valid.txt', '--block-size', '17'),
    run('--data', 'valid.txt', '--block-size', '8', '--stride', '9'),
    run('--multiple-choice', 'one.jsonl', ...texts),
    run('--data', 'valid.txt', '--block-size', '1', '--stride', '1'),
  ]);
  t.match(neither.stderr, /--data, --multiple-choice: expected one of the two, received neither/);
  t.match(both.stderr, /3 problems\n.*received both\n.*--multiple-choice: .*exists.*\n.*--stride: expected nothing/);
  t.match(long.stderr, /--block-size: expected an integer from 1 to 16, received 17/);
  t.match(far.stderr, /--stride: expected an integer from 1 to 8, received 9/);
  t.equal(idle.code, 2);
  t.match(idle.stderr, /5 problems/);
  for (const flag of texts.filter((word) => word.startsWith('--'))) {
    t.match(idle.stderr, `${flag}: expected nothing with --multiple-choice`);
  }
  t.match(short.stderr, /--block-size: expected an integer from 2 to 16, received 1/);
});

t.test('a perplexity that nobody can read is short', async (t) => {
  const sure = await GPT2.fromPretrained(join(cwd, 'model'), { device: 'cpu', threads: 1 });
  t.teardown(() => sure.dispose());
  await sure.writeTensor('transformer.ln_f.weight', new Float32Array(16).fill(100));
  await sure.savePretrained(join(cwd, 'sure'), { tokenizer });
  const on = ['--model', 'sure', '--device', 'cpu', '--threads', '1'];
  const [text, page] = await Promise.all([
    run(...on, '--data', 'valid.txt'),
    kotodama(['explain', ...on, '--text', 'All human beings'], { cwd }),
  ]);
  t.match(text.stdout, /^perplexity +\d\.\d\de\+\d+$/m);
  t.match(page.stdout, /perplexity \d\.\d\de\+\d+\n/);
});

t.test('a model of NaN measures nothing', async (t) => {
  const broken = await GPT2.fromPretrained(join(cwd, 'model'), { device: 'cpu', threads: 1 });
  t.teardown(() => broken.dispose());
  await broken.writeTensor('transformer.ln_f.bias', new Float32Array(16).fill(Number.NaN));
  await broken.savePretrained(join(cwd, 'broken'), { tokenizer });
  for (const what of [
    ['--data', 'valid.txt'],
    ['--multiple-choice', 'one.jsonl'],
  ]) {
    const words = ['evaluate', '--model', 'broken', '--device', 'cpu', '--json', ...what];
    const outcome = await kotodama(words, { cwd });
    t.equal(outcome.code, 1);
    t.equal(outcome.stdout, '');
    t.match(outcome.stderr, /^error ERR_NON_FINITE: The model's loss is NaN/);
  }
});
