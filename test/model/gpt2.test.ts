import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { GPT2, KotodamaError, listDevices, Tokenizer } from '../../dist/index.js';

const TINY = { vocabSize: 13, nEmbd: 8, nHead: 2, nLayer: 2, nPositions: 6 };
const CPU = { device: 'cpu', threads: 1 } as const;
const INPUT = { inputIds: [[1, 2, 3, 4]], labels: [[2, 3, 4, -100]] };

t.test('what a model says about itself', async (t) => {
  const model = await GPT2.create(TINY, { device: 'cpu' });
  t.equal(model.device.device, 'cpu');
  t.equal(model.precision, 'fp32');
  const elements = model.tensors.map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  t.equal(
    model.parameterCount,
    elements.reduce((a, b) => a + b, 0),
  );
  t.same(model.tensors[0], { name: 'transformer.wte.weight', shape: [13, 8] });
  t.equal(model.tensors.length, 2 + 2 * 12 + 2);
  const plan = model.memoryPlan({ batchSize: 2, blockSize: 6 });
  t.equal(plan.parameters >= 4 * model.parameterCount, true);
  t.equal(plan.total, plan.parameters + plan.gradients + plan.moments + plan.activations);
  await model.reserve({ batchSize: 2, blockSize: 6 });
  const peak = await model.peakFlops();
  if (model.device.detail.startsWith('portable')) t.equal(peak, null);
  else t.ok(peak !== null && peak > 1e9 && peak < 1e15, String(peak));
  t.equal((await listDevices())[0]?.device, 'cpu');
  await model.dispose();
});

t.test('the seed decides the weights', async (t) => {
  const read = async (seed: number) => {
    const model = await GPT2.create({ ...TINY, nEmbd: 64 }, { ...CPU, seed });
    const values = await model.readTensor('transformer.h.0.attn.c_attn.weight');
    await model.dispose();
    return values;
  };
  const values = await read(1);
  t.ok(isDeepStrictEqual(await read(1), values));
  t.notOk(isDeepStrictEqual(await read(2), values));
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  t.ok(Math.abs(deviation - 0.02) < 0.001, `standard deviation ${deviation} of ${values.length}`);
});

t.test('a training step', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  const before = await model.evaluate(INPUT);
  t.equal(before.tokens, 3);
  t.ok(Math.abs(before.loss - before.lossSum / 3) < 1e-12);
  t.ok(Math.abs(before.loss - Math.log(13)) < 0.1, 'a new model knows nothing');
  const trained = await model.forwardBackward(INPUT);
  t.ok(Math.abs(trained.loss - before.loss) < 1e-6, 'no dropout: the same loss');
  const name = 'transformer.wte.weight';
  const gradient = await model.readGradient(name);
  t.ok(gradient.some((value) => value !== 0));
  // The same micro-batch twice has the same mean gradient.
  await model.forwardBackward(INPUT);
  const twice = await model.readGradient(name);
  t.ok(twice.every((value, index) => Math.abs(value - gradient[index]) < 1e-6));

  const weights = await model.readTensor(name);
  t.same(model.counters, { step: 0, microStep: 2 });
  const result = await model.step({ learningRate: 1e-2 });
  t.match(result, { applied: true });
  t.ok(result.gradNorm > 0);
  t.equal(model.counters.step, 1);
  t.notSame(await model.readTensor(name), weights);
  t.ok((await model.evaluate(INPUT)).loss < before.loss);

  await model.forwardBackward(INPUT);
  await model.zeroGradients();
  await model.forwardBackward(INPUT);
  t.match(await model.step({ learningRate: 0, betas: [0, 0], eps: 1, weightDecay: 0, maxGradNorm: 0 }), {
    applied: true,
  });
  await model.dispose();
});

t.test('a micro-step and the update after it in one call', async (t) => {
  const config = { ...TINY, embdPdrop: 0.2, attnPdrop: 0.2, residPdrop: 0.2 };
  const [one, two] = [await GPT2.create(config, CPU), await GPT2.create(config, CPU)];
  t.teardown(() => Promise.all([one.dispose(), two.dispose()]));
  const weights = async (model: GPT2) => {
    const values: Float32Array[] = [];
    for (const { name } of model.tensors) values.push(await model.readTensor(name));
    return values;
  };
  const other = { inputIds: [[5, 6, 7]], labels: [[6, 7, 8]] };
  const options = { learningRate: 1e-2, maxGradNorm: 0.1 };

  for (let step = 0; step < 3; step++) {
    await one.forwardBackward(other);
    const { updateSeconds, ...result } = await one.trainStep(INPUT, options);
    await two.forwardBackward(other);
    t.same(result, { ...(await two.forwardBackward(INPUT)), ...(await two.step(options)) });
    t.ok(updateSeconds > 0 && updateSeconds < 10, String(updateSeconds));
    t.same(await weights(one), await weights(two), 'the same bits');
    t.same(one.counters, two.counters);
  }

  const before = await weights(one);
  const wrong = one.trainStep(INPUT, { ...options, betas: [1, 0.9] });
  await t.rejects(wrong, { code: 'ERR_OPTIONS', message: /betas/ });
  await t.rejects(one.trainStep(INPUT, { ...options, eps: 0 }), { code: 'ERR_OPTIONS', message: /eps/ });
  await t.rejects(one.trainStep({ ...INPUT, labels: [[99, 3, 4, 5]] }, options), { code: 'ERR_OPTIONS' });
  t.equal(one.counters.microStep, 6, 'refused before anything is computed');

  const unlabelled = { ...INPUT, labels: [[-100, -100, -100, -100]] };
  const refused = { applied: false, gradNorm: Number.NaN, updateSeconds: 0 };
  t.match(await one.trainStep(unlabelled, options), { tokens: 0, ...refused });
  const bias = 'transformer.ln_f.bias';
  const whole = await one.readTensor(bias);
  await one.writeTensor(
    bias,
    whole.map(() => Number.NaN),
  );
  await one.forwardBackward(INPUT);
  t.match(await one.trainStep(INPUT, options), { loss: Number.NaN, ...refused });
  await t.rejects(one.step(options), { code: 'ERR_OPTIONS', message: /no gradients/ }, 'they were forgotten');
  await one.writeTensor(bias, whole);
  t.same(await weights(one), before, 'nothing was updated');
  t.equal(one.counters.step, 3);
  t.match(await one.trainStep(INPUT, options), { applied: true });
});

t.test('state that is read and written back continues with the same bits', async (t) => {
  const config = { ...TINY, embdPdrop: 0.2, attnPdrop: 0.2, residPdrop: 0.2 };
  const first = await GPT2.create(config, { ...CPU, seed: 9 });
  const train = async (model: GPT2, steps: number) => {
    const losses: number[] = [];
    for (let i = 0; i < steps; i++) {
      losses.push((await model.forwardBackward(INPUT)).lossSum);
      await model.step({ learningRate: 1e-2 });
    }
    return losses;
  };
  await train(first, 3);
  const second = await GPT2.create(config, { ...CPU, seed: 9 });
  for (const { name } of first.tensors) {
    await second.writeTensor(name, await first.readTensor(name));
    await second.writeOptimizerState(name, await first.readOptimizerState(name));
  }
  second.counters = first.counters;
  t.same(await train(second, 3), await train(first, 3));
  await first.dispose();
  await second.dispose();
});

t.test('wrong options of a model', async (t) => {
  const cases: [object, RegExp][] = [
    [{ device: 'gpu' }, /device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', received 'gpu'/],
    [{ device: 3 }, /device/],
    [{ precision: 'fp16' }, /precision: expected 'fp32' or 'bf16'.*fp16/],
    [{ stochasticRounding: true }, /stochasticRounding: expected false, or precision 'bf16', received true/],
    [{ seed: -1 }, /seed/],
    [{ threads: 0 }, /threads/],
    [{ thread: 1 }, /did you mean threads/],
  ];
  for (const [options, message] of cases) {
    await t.rejects(GPT2.create(TINY, options as never), { code: 'ERR_OPTIONS', message });
  }
  await t.rejects(GPT2.create({ ...TINY, nHead: 3 }), { code: 'ERR_OPTIONS', message: /nHead.*divisor/ });
  await t.rejects(GPT2.create(TINY, { device: 'cuda:99' }), { code: 'ERR_DEVICE', message: /cuda:99/ });
});

t.test('wrong ids and labels', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  const data = Int32Array.of(1, 2, 3, 4);
  const gone = data.slice();
  structuredClone(gone, { transfer: [gone.buffer] });
  const cases: [unknown, unknown, RegExp][] = [
    [[[1, 13]], [[1, 1]], /inputIds, row 0, column 1: expected an id from 0 to 12, received 13/],
    [
      [
        [1, 1],
        [1, -1],
      ],
      [
        [1, 1],
        [1, 1],
      ],
      /inputIds, row 1, column 1.*received -1/,
    ],
    [[[1, 1]], [[1, 13]], /labels, row 0, column 1.*or -100/],
    [[[1, 1]], [[-1, 1]], /labels, row 0, column 0/],
    [[[1, 1]], [[1]], /shape of labels: expected \[1, 2\].*received \[1, 1\]/],
    [[[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4, 5, 6, 7]], /length of the blocks: expected at most 6.*received 7/],
    [[[1, 2], [1]], [[1, 2], [1]], /inputIds, row 1: expected 2 ids.*received 1/],
    [[[1, 0.5]], [[1, 1]], /row 0, column 1: expected an integer.*received 0.5/],
    [[[2 ** 32 + 1, 1]], [[1, 1]], /row 0, column 0: expected an integer below 2\^31, received 4294967297/],
    [[[1, 1]], [[1, 2 ** 32 - 100]], /labels, row 0, column 1: expected an integer below 2\^31/],
    [[1, 2], [1, 2], /inputIds: expected rows of ids, received 1\n.*inputIds: \[ids\]/],
    [[[1], null], [[1], [1]], /inputIds: expected rows of ids, received null$/],
    [['ab'], [[1, 1]], /inputIds: expected rows of ids, received 'ab'/],
    [[], [], /at least one id/],
    [[[]], [[]], /at least one id/],
    [{ data, shape: [1, 3] }, { data, shape: [1, 3] }, /B \* T = 4.*received \[1, 3\]/],
    [{ data, shape: [4] }, { data, shape: [4] }, /inputIds/],
    [{ data: [1, 2], shape: [1, 2] }, { data, shape: [1, 4] }, /Int32Array/],
    [{ data, shape: [-2, -2] }, { data, shape: [-2, -2] }, /shape of inputIds: .*both at least 1.*received \[-2, -2\]/],
    [{ data: gone, shape: [1, 3] }, { data, shape: [1, 4] }, /inputIds: expected at least one id, .*transferred/],
    [undefined, undefined, /inputIds.*received undefined/],
    ['1 2 3', '1 2 3', /inputIds/],
  ];
  for (const [inputIds, labels, message] of cases) {
    const input = { inputIds, labels } as never;
    await t.rejects(model.forwardBackward(input), { code: 'ERR_OPTIONS', message });
    await t.rejects(model.evaluate(input), { code: 'ERR_OPTIONS', message });
  }
  const tensor = { data, shape: [2, 2] as [number, number] };
  t.equal((await model.evaluate({ inputIds: tensor, labels: tensor })).tokens, 4);
  t.ok(Number.isNaN((await model.evaluate({ inputIds: [[1]], labels: [[-100]] })).loss));
  const rows = [Uint16Array.of(1, 2)] as never;
  t.equal((await model.evaluate({ inputIds: rows, labels: rows })).tokens, 2, 'ids as token files hold them');
  await model.dispose();
});

t.test('wrong steps and tensors', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  const wrong = { learningRate: Number.NaN, betas: [1, 0.9], eps: -1, wightDecay: 1 };
  for (const message of [
    /4 problems/,
    /learningRate.*NaN/,
    /betas.*received \[1, 0.9\]/,
    /eps/,
    /did you mean weightDecay/,
  ]) {
    await t.rejects(model.step(wrong as never), { code: 'ERR_OPTIONS', message });
  }
  for (const betas of [['0.9', '0.95'], [0.9], 5]) {
    const step = model.step({ learningRate: 1, betas: betas as never });
    await t.rejects(step, { code: 'ERR_OPTIONS', message: /betas: expected two numbers/ });
  }
  await t.rejects(model.step({} as never), { code: 'ERR_OPTIONS', message: /learningRate.*nothing/ });
  await t.rejects(model.readTensor('transformer.wte.wieght'), { message: /did you mean 'transformer.wte.weight'/ });
  for (const [name, hint] of [
    ['wte', /did you mean 'transformer.wte.weight'/],
    ['h.0.attn.c_attn.weight', /did you mean 'transformer.h.0.attn.c_attn.weight'/],
    ['h.1.mlp', /several, such as 'transformer.h.1.mlp.c_fc.weight'/],
    ['lm_head.weight', /those of transformer.wte.weight/],
    ['nothing', /model.tensors lists them/],
  ] as const) {
    await t.rejects(model.readTensor(name), { code: 'ERR_OPTIONS', hint });
  }
  await t.rejects(model.readGradient('lm_head'), { code: 'ERR_OPTIONS', message: /no tensor 'lm_head'/ });
  await t.rejects(model.writeTensor('transformer.wte.weight', new Float32Array(3)), {
    code: 'ERR_OPTIONS',
    message: /Float32Array of 104, \[13, 8\], received one of 3/,
  });
  await model.dispose();
});

t.test('calls without what they need are errors of ours', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  t.teardown(() => model.dispose());
  const untyped = model as unknown as Record<string, (argument?: unknown) => Promise<unknown>>;
  const wrong = { name: 'KotodamaError', code: 'ERR_OPTIONS' };
  for (const name of [
    ...['forward', 'evaluate', 'attention', 'hiddenStates', 'forwardBackward', 'trainStep', 'step', 'reserve'],
    ...['explain', 'savePretrained', 'saveGguf', 'saveLlmc', 'readTensor', 'writeTensor', 'writeOptimizerState'],
  ]) {
    await t.rejects(untyped[name].call(model), wrong, name);
  }
  t.throws(() => model.memoryPlan(undefined as never), { ...wrong, message: /batchSize.*received nothing/ });
  for (const patterns of [undefined, 'wte', [3]]) {
    t.throws(() => model.freeze(patterns as never), { ...wrong, message: /an array of strings/ });
  }
  for (const save of ['savePretrained', 'saveGguf', 'saveLlmc']) {
    const saving = (untyped[save] as (path: string, options: null) => Promise<void>).call(model, 'nowhere', null);
    await t.rejects(saving, { ...wrong, message: /options: expected an object, received null/ }, save);
  }
  const tokenizer = await Tokenizer.fromPretrained('demo/tokenizer');
  await t.rejects(model.savePretrained('nowhere', tokenizer as never), { ...wrong, received: 'a Tokenizer' });
  await t.rejects(model.savePretrained('nowhere', { tokenzier: tokenizer } as never), {
    ...wrong,
    hint: /mean tokenizer/,
  });
  await t.rejects(GPT2.fromPretrained('nowhere', null as never), { ...wrong, received: 'null' });
  const [AnyModel, AnyTokenizer] = [GPT2, Tokenizer] as unknown as (new (given: unknown) => unknown)[];
  t.throws(() => new AnyModel(TINY), { ...wrong, hint: /await GPT2.create/ });
  t.throws(() => new AnyTokenizer('demo/tokenizer'), { ...wrong, hint: /await Tokenizer.fromPretrained/ });
  await t.rejects(model.savePretrained('', {}), { ...wrong, message: /folder/ });
  for (const name of [undefined, '', 3]) await t.rejects(GPT2.fromPretrained(name as never), wrong);
});

t.test('misnamed parts of a batch, and promises, are named', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  t.teardown(() => model.dispose());
  const { inputIds, labels } = INPUT;
  const missing = 'a Promise (is an await missing?)';
  const cases: [Promise<unknown>, object][] = [
    [model.forwardBackward({ input_ids: inputIds, labels } as never), { hint: /input_ids: did you mean inputIds/ }],
    [model.evaluate({ inputIds, targets: labels } as never), { hint: /targets: did you mean labels/ }],
    [model.trainStep({ inputIds } as never, { learningRate: 1 }), { received: 'undefined', hint: undefined }],
    [model.forward(inputIds as never), { expected: /in { inputIds }$/, received: 'an array of 1' }],
    [model.attention({ inputIds, layers: 1 } as never), { message: /layers: .*did you mean layer\?/ }],
    [model.forwardBackward(Promise.resolve(INPUT) as never), { received: missing }],
    [model.forward({ inputIds: Promise.resolve(inputIds) as never }), { received: missing }],
    [model.writeTensor('transformer.ln_f.bias', Promise.resolve() as never), { received: missing }],
    [model.savePretrained('nowhere', { tokenizer: Promise.resolve() as never }), { received: missing }],
    [model.savePretrained('nowhere', Promise.resolve() as never), { received: missing }],
  ];
  for (const [call, wanted] of cases) await t.rejects(call, { code: 'ERR_OPTIONS', ...wanted });
  const more = { ...INPUT, origins: [], layer: 0 };
  t.equal((await model.evaluate(more)).tokens, 3, 'what else a batch holds is not looked at');
  await t.resolves(model.attention(more));
});

t.test('two calls at once that change the model: the second one is refused, the first one goes on', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  const first = model.forwardBackward(INPUT);
  await t.rejects(model.forwardBackward(INPUT), { code: 'ERR_BUSY' });
  await t.rejects(model.step({ learningRate: 1 }), { code: 'ERR_BUSY' });
  await t.rejects(model.trainStep(INPUT, { learningRate: 1 }), { code: 'ERR_BUSY' });
  t.equal((await first).tokens, 3);
  t.match(await model.step({ learningRate: 1e-3 }), { applied: true });
  await model.dispose();
});

t.test('a model is disposed once what it does has ended', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  const saving = model.savePretrained(t.testdir());
  await model.dispose();
  await t.resolves(saving);
  await t.rejects(model.forward(INPUT), { code: 'ERR_DISPOSED' });
});

t.test('whoever saves or explains a model has it alone until the end', async (t) => {
  const folder = t.testdir();
  const tokenizer = await Tokenizer.fromPretrained('demo/tokenizer');
  const model = await GPT2.create({ ...TINY, vocabSize: tokenizer.vocabSize }, CPU);
  t.teardown(() => model.dispose());
  const works: [string, () => Promise<unknown>][] = [
    ['savePretrained', () => model.savePretrained(folder)],
    ['saveGguf', () => model.saveGguf(join(folder, 'model.gguf'), { tokenizer })],
    ['saveLlmc', () => model.saveLlmc(join(folder, 'model.bin'))],
    ['explain', () => model.explain('a b', { tokenizer })],
  ];
  for (const [name, work] of works) {
    const order: string[] = [];
    const [first, second] = [
      work().then(() => order.push(name)),
      model.trainStep(INPUT, { learningRate: 1e-3 }).then(() => order.push('step')),
    ];
    await Promise.all([first, second]);
    t.same(order, [name, 'step']);
  }
});

t.test('a disposed model says so', async (t) => {
  const model = await GPT2.create(TINY, CPU);
  const running = model.forwardBackward(INPUT);
  await model.dispose();
  t.equal((await running).tokens, 3, 'a running call ends first');
  await model.dispose();
  const disposed = { code: 'ERR_DISPOSED' };
  await t.rejects(model.forwardBackward(INPUT), disposed);
  await t.rejects(model.evaluate(INPUT), disposed);
  await t.rejects(model.forward({ inputIds: [[1]] }), disposed);
  await t.rejects(model.step({ learningRate: 1 }), disposed);
  await t.rejects(model.trainStep(INPUT, { learningRate: 1 }), disposed);
  await t.rejects(model.peakFlops(), disposed);
  await t.rejects(model.readTensor('transformer.wte.weight'), disposed);
  await t.rejects(model.savePretrained('/nowhere'), disposed);
  await t.rejects(model.generateIds([1]).next(), disposed);
  t.throws(() => model.memoryPlan({ batchSize: 1, blockSize: 1 }), disposed);
  t.throws(() => model.counters, disposed);
  await (await GPT2.create(TINY, CPU))[Symbol.asyncDispose]();
});

t.test('a plan that no machine can hold is an error with numbers', async (t) => {
  // Nearly as many tokens as a batch may hold, in so many layers that they take 20 TiB.
  const model = await GPT2.create({ ...TINY, nPositions: 1000, nEmbd: 64, nLayer: 8 }, CPU);
  const shape = { batchSize: 1_000_000, blockSize: 1000 };
  t.ok(model.memoryPlan(shape).total > model.memoryPlan(shape).free);
  const error = await model.reserve(shape).catch((thrown) => thrown);
  t.ok(error instanceof KotodamaError);
  t.match(error, { code: 'ERR_MEMORY', message: /GiB.*[GM]iB are free/s });
  t.equal((await model.evaluate(INPUT)).tokens, 3, 'the model still works');
  await model.dispose();
});

t.test('typed arrays of another realm are as good, and a name may be anything', async (t) => {
  const model = await GPT2.create(TINY, { device: 'cpu', threads: 1 });
  t.teardown(() => model.dispose());
  const elsewhere = <T>(code: string): T => runInNewContext(code) as T;
  const shape = [1, 4] as [number, number];
  const inputIds = { data: elsewhere<Int32Array>('Int32Array.of(1, 2, 3, 4)'), shape };
  const labels = { data: elsewhere<Int32Array>('Int32Array.of(2, 3, 4, -100)'), shape };
  t.same(await model.evaluate({ inputIds, labels }), await model.evaluate(INPUT));
  const name = 'transformer.ln_f.bias';
  const values = elsewhere<Float32Array>(`new Float32Array(${TINY.nEmbd}).fill(0.5)`);
  await model.writeTensor(name, values);
  t.same([...(await model.readTensor(name))], [...values]);
  const refused = { code: 'ERR_OPTIONS', message: /no tensor 'Symbol\(x\)'/ };
  const symbol = Symbol('x') as never;
  await t.rejects(model.readTensor(symbol), refused);
  await t.rejects(model.readGradient(symbol), refused);
  await t.rejects(model.readOptimizerState(symbol), refused);
  await t.rejects(model.writeTensor(symbol, values), refused);
});
