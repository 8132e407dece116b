import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import * as kotodama from '../../dist/index.js';
import { describe, editDistance, meant, nearest, OptionReader, Problems } from '../../dist/validate.js';

t.test('reads values, fallbacks and required values', async (t) => {
  const read = new OptionReader({ a: 1, b: 0.5, c: true, d: 'text', e: 'two', g: undefined });
  t.equal(read.integer('a', { min: 1, max: 1 }), 1);
  t.equal(read.number('b', { above: 0, below: 1 }), 0.5);
  t.equal(read.boolean('c'), true);
  t.equal(read.string('d'), 'text');
  t.equal(read.choice('e', ['one', 'two']), 'two');
  t.equal(read.integer('g', {}, 7), 7, 'undefined is absent');
  t.equal(read.string('h', undefined), undefined);
  t.equal(read.has('g'), false);
  read.onlyKnown(['a', 'b', 'c', 'd', 'e']);
  read.finish('Nothing is wrong');
  t.same(read.problems.list, []);
});

t.test('a single problem is one line with its parts', async (t) => {
  const read = new OptionReader({ nLayer: 0 }, (name) => `--${name}`);
  read.integer('nLayer', { min: 1 });
  t.throws(() => read.finish('Wrong options'), {
    code: 'ERR_OPTIONS',
    message: 'Wrong options: --nLayer: expected an integer of at least 1, received 0',
    expected: 'an integer of at least 1',
    received: '0',
  });
});

t.test('several problems are listed together', async (t) => {
  const read = new OptionReader({ rate: Number.NaN, big: 2 ** 53, flag: 'yes', kind: 'cosin', text: '', laern: 1 });
  read.number('rate', { min: 0, max: 1 });
  read.integer('big', { min: 0 });
  read.boolean('flag');
  read.choice('kind', ['cosine', 'linear', 'constant']);
  read.string('text');
  read.integer('steps', { min: 1 });
  read.onlyKnown(['rate', 'big', 'flag', 'kind', 'text', 'learn']);
  const message = [
    'Wrong options: 7 problems',
    '  rate: expected a number from 0 to 1, received NaN',
    '  big: expected an integer from 0 to 9007199254740991, received 9007199254740992',
    "  flag: expected true or false, received 'yes'",
    "  kind: expected 'cosine', 'linear' or 'constant', received 'cosin' (did you mean 'cosine'?)",
    "  text: expected a string that is not empty, received ''",
    '  steps: expected an integer of at least 1, received nothing',
    '  laern: expected a known name, received an unknown name (did you mean learn?)',
  ].join('\n');
  t.throws(() => read.finish('Wrong options'), { code: 'ERR_OPTIONS', message });
});

t.test('options that are no object are a problem', async (t) => {
  for (const options of [null, 3, 'x', []]) {
    t.throws(() => new OptionReader(options).finish('Wrong'), { code: 'ERR_OPTIONS', message: /an object/ });
  }
  new OptionReader(undefined).finish('Absent options are fine');
  new Problems().throwIfAny('Nothing');
});

t.test('an object of ours in the place of options is one problem, not its fields', async (t) => {
  class Tokenizer {
    files = ['a'];
    model = {};
  }
  const read = new OptionReader(new Tokenizer());
  read.onlyKnown(['tokenizer', 'dtype']);
  t.throws(() => read.finish('Wrong'), {
    message: 'Wrong: options: expected an object with some of tokenizer, dtype, received a Tokenizer',
  });
  const mine = new OptionReader(new Tokenizer());
  mine.onlyKnown(['files', 'model']);
  mine.finish('An object of any class may hold options');
  const misspelled = new OptionReader(new Tokenizer());
  misspelled.onlyKnown(['file', 'model']);
  t.throws(() => misspelled.finish('Wrong'), {
    message: 'Wrong: files: expected a known name, received an unknown name',
    hint: 'did you mean file?',
  });
  const nothing = new OptionReader(Object.assign(Object.create(null), { a: 1 }));
  nothing.onlyKnown(['a']);
  nothing.finish('Neither needs it one');
});

t.test('edit distance', async (t) => {
  const cases: [string, string, number][] = [
    ['', '', 0],
    ['', 'abc', 3],
    ['abc', '', 3],
    ['kitten', 'sitting', 3],
    ['ab', 'ba', 1],
    ['learning', 'laerning', 1],
    ['flaw', 'lawn', 2],
  ];
  for (const [a, b, distance] of cases) {
    t.equal(editDistance(a, b), distance, `${a} ${b}`);
    t.equal(editDistance(b, a), distance, `${b} ${a}`);
  }
});

t.test('the nearest name is a likely one or none', async (t) => {
  const names = ['nLayer', 'nHead', 'learningRate', 'batchSize'];
  t.equal(nearest('n-layers', names), 'nLayer');
  t.equal(nearest('lerningrate', names), 'learningRate');
  t.equal(nearest('batch_size', names), 'batchSize');
  t.equal(nearest('temperature', names), undefined);
  t.equal(nearest('x', names), undefined);
});

t.test('a name that other libraries have is known by its own', async (t) => {
  const trainer = ['lr', 'gradClip', 'beta1', 'beta2', 'eps', 'maxSteps', 'epochs', 'gradAccum', 'warmupSteps'];
  const step = ['learningRate', 'betas', 'eps', 'weightDecay', 'maxGradNorm'];
  const config = ['vocabSize', 'nPositions', 'nEmbd', 'nLayer', 'nHead', 'nInner'];
  const cases: [string, string[], string][] = [
    ['learningRate', trainer, 'lr'],
    ['learning_rate', trainer, 'lr'],
    ['max-grad-norm', trainer, 'gradClip'],
    ['betas', trainer, 'beta1'],
    ['num_train_epochs', trainer, 'epochs'],
    ['gradient_accumulation_steps', trainer, 'gradAccum'],
    ['warmup', trainer, 'warmupSteps'],
    ['eval_iters', ['evalEvery', 'evalBatches'], 'evalBatches'],
    ['lr', step, 'learningRate'],
    ['gradClip', step, 'maxGradNorm'],
    ['clip_grad_norm', step, 'maxGradNorm'],
    ['beta2', step, 'betas'],
    ['n_ctx', config, 'nPositions'],
    ['num_layers', config, 'nLayer'],
    ['num_hidden_layers', config, 'nLayer'],
    ['num_attention_heads', config, 'nHead'],
    ['hidden_size', config, 'nEmbd'],
  ];
  for (const [word, names, name] of cases) t.equal(nearest(word, names), name, word);
  t.equal(nearest('learning_rate', config), undefined);
  t.equal(nearest('maxSteps', ['steps', 'maxSteps']), 'maxSteps', 'the very name comes first');
});

t.test('what a word may mean', async (t) => {
  const loader = ['batchSize', 'worldSize', 'rank', 'prefetchFactor', 'numWorkers', 'dropLast'];
  const cases: [string, string[], string[]][] = [
    ['batch', loader, ['batchSize']],
    ['workers', loader, ['numWorkers']],
    ['prefetch', loader, ['prefetchFactor']],
    ['size', loader, ['batchSize', 'worldSize']],
    ['bathSize', loader, ['batchSize']],
    ['xyz', loader, []],
    ['r', loader, []],
    ['e', ['epochs', 'evalEvery'], []],
    ['eval', ['evalEvery', 'evalBatches', 'evalSteps', 'evalLoss'], []],
    ['dropout', ['nLayer', 'residPdrop', 'embdPdrop', 'attnPdrop'], ['residPdrop', 'embdPdrop', 'attnPdrop']],
    ['betas', ['beta1', 'beta2', 'lr'], ['beta1', 'beta2']],
    ['max_steps', ['steps', 'maxSteps'], ['maxSteps']],
  ];
  for (const [word, names, expected] of cases) t.same(meant(word, names), expected, word);
});

t.test('what trainTokenizer gives is not yet the tokenizer', async (t) => {
  const trained = { vocabSize: 9, tokenizer: () => ({}) };
  const { BlockDataset, multipleChoice, Trainer } = kotodama;
  const named = { code: 'ERR_OPTIONS', message: /tokenizer: expected a .*call \.tokenizer\(\) on it/s };
  t.throws(() => BlockDataset.fromTexts([], { tokenizer: trained as never, blockSize: 4 }), named);
  t.throws(() => new Trainer({ tokenizer: trained } as never), named);
  await t.rejects(multipleChoice({} as never, trained as never, []), named);
});

t.test('what belongs elsewhere is told where', async (t) => {
  const read = new OptionReader({ shuffle: true, x: 1 });
  read.onlyKnown(['batchSize'], { shuffle: 'wrap the dataset' });
  t.match(read.problems.list, [
    { name: 'shuffle', expected: 'a known name', hint: 'wrap the dataset' },
    { name: 'x', expected: 'one of batchSize', hint: undefined },
  ]);
});

t.test('describes values of any type', async (t) => {
  const cases: [unknown, string][] = [
    ['3', "'3'"],
    [3, '3'],
    [null, 'null'],
    [undefined, 'undefined'],
    [[1, 2], 'an array of 2'],
    [{}, 'an object'],
    [() => 1, 'a function'],
    [Promise.resolve(1), 'a Promise (is an await missing?)'],
    [new Int32Array(2), 'Int32Array of 8 bytes'],
    ['x'.repeat(100), `'${'x'.repeat(57)}...'`],
    [5n, '5'],
    [Symbol('s'), 'Symbol(s)'],
  ];
  for (const [value, text] of cases) t.equal(describe(value), text);
});

t.test('arguments of another type are named, whatever is called with them', async (t) => {
  const { addTokens, explanationPage, Progress, readMetrics, readQuestions, recorded, slidingWindows } = kotodama;
  const { BlockDataset, stackBlocks, TokenDataset, Tokenizer, writeTokenFiles } = kotodama;
  const output = join(t.testdir(), 'a.bin');
  const written = { output, tokenizer: { fingerprint: 'f', vocabSize: 9 }, sources: [] };
  const ids = async function* () {};
  const make = (type: object, ...args: unknown[]) => Reflect.construct(type as new () => object, args);
  const windows = { windowSize: 2, stride: 1 };
  const options = { tokenizer: { encode: () => [] }, blockSize: 4 };
  const explanation = { tokens: [], attention: [], loss: null, guessLoss: 1 };
  const cases: [RegExp, (...wrong: never[]) => unknown, ...unknown[]][] = [
    [/file of events: expected a path, received undefined/, (path) => readMetrics(path).next()],
    [/file of questions: expected a path, received an object/, (path) => readQuestions(path).next(), {}],
    [
      /out: expected a path.*recorded\(trainer\.run\(\), trainer\.out\)/s,
      (out) => recorded(ids() as never, out).next(),
    ],
    [/events: expected the events of a run/, (events) => recorded(events, 'out').next(), 3],
    [/tensorboard: expected true or false/, (how) => recorded(ids() as never, 'out', how).next(), { tensorboard: 1 }],
    [/new tokens: expected an array of strings, received '<x>'/, (x) => addTokens('demo/tokenizer', x, 'out'), '<x>'],
    [/folder to write to: expected a path/, (folder) => addTokens('demo/tokenizer', ['<x>'], folder)],
    [/content of tokenizer\.json: expected an object/, (json) => Tokenizer.fromJson(json)],
    [/a Promise \(is an await missing\?\)/, (json) => Tokenizer.fromJson(json), Promise.resolve({})],
    [/tokenizer_config\.json: expected an object, received null/, (config) => Tokenizer.fromJson({}, config), null],
    [/SentencePiece model: expected a Uint8Array/, (model) => Tokenizer.fromSentencePiece(model), 'spiece.model'],
    [/explanation: expected what await model\.explain/, (page) => explanationPage(page)],
    [/model: expected a string/, (how) => explanationPage(explanation as never, how), { model: 3 }],
    [/stream: expected a stream/, (stream) => new Progress(stream)],
    [/batches: expected a DataLoader/, (batches) => slidingWindows(batches, windows).next()],
    [/blocks: expected an array of blocks/, (blocks) => stackBlocks(blocks)],
    [/made with new\n.*TokenDataset\.open/, (path) => make(TokenDataset, path, { blockSize: 4 }), 'a.bin'],
    [/made with new\n.*BlockDataset\.fromFile/, (how) => make(BlockDataset, how), options],
    [/ids: expected an async iterable/, (ids) => writeTokenFiles(ids, written), [1, 2]],
    [/tokenizer: .*\n.*sources: /s, (how) => writeTokenFiles(ids(), how), { output }],
    [
      /5 problems.*shardTokens: expected an integer of at least 1/s,
      (how) => writeTokenFiles(ids(), how),
      { shardTokens: 0, x: 1 },
    ],
  ];
  for (const [message, call, ...wrong] of cases) {
    await t.rejects(async () => call(...(wrong as never[])), { code: 'ERR_OPTIONS', message });
  }
  t.notOk(existsSync(output), 'nothing is written');
});
