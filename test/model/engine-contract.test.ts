// What the raw engine promises beside numbers: one call at a time, disposal, errors that say what is wrong.
import { Worker } from 'node:worker_threads';
import t from 'tap';
import type { NativeModel } from '../../dist/native.js';
import { native } from '../../dist/native.js';
import { batchOf, create, evaluate, forwardBackward, readAll, smallConfig, stepOptions } from './engine-helpers.js';

const batch = batchOf(smallConfig, 2, 8);

t.test('a second call at once is ERR_BUSY and harms nothing', async (t) => {
  const model = await create();
  const twin = await create();
  t.teardown(() => Promise.all([model.dispose(), twin.dispose()]));
  const running = forwardBackward(model, batch);
  const refused: Promise<unknown>[] = [
    forwardBackward(model, batch),
    model.step(stepOptions),
    model.createDecoder(1, 4),
  ];
  for (const call of refused) await t.rejects(call, { code: 'ERR_BUSY' });
  t.same(await running, await forwardBackward(twin, batch));
  t.same(await forwardBackward(model, batch), await forwardBackward(twin, batch));
});

t.test('synchronous calls on a busy model', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  const running = forwardBackward(model, batch);
  t.throws(() => model.counters(), { code: 'ERR_BUSY' });
  t.throws(() => model.setCounters({ step: 0, microStep: 0 }), { code: 'ERR_BUSY' });
  t.throws(() => model.plan(1, 1), { code: 'ERR_BUSY' });
  await running;
  t.same(model.counters(), { step: 0, microStep: 1 });
});

t.test('inputs are copied at the call', async (t) => {
  const [model, twin] = await Promise.all([create(), create()]);
  t.teardown(() => Promise.all([model!.dispose(), twin!.dispose()]));
  const truth = await forwardBackward(twin!, batch);
  const mine = { ...batch, inputIds: batch.inputIds.slice(), labels: batch.labels.slice() };
  const running = forwardBackward(model!, mine);
  mine.inputIds.fill(0);
  mine.labels.fill(0);
  t.same(await running, truth);
});

t.test('dispose waits for the running call, then every call is ERR_DISPOSED', async (t) => {
  const model = await create();
  const decoder = await model.createDecoder(1, 4);
  const order: string[] = [];
  const running = forwardBackward(model, batch).then((loss) => {
    order.push('call');
    return loss;
  });
  const disposed = model.dispose().then(() => order.push('dispose'));
  const twice = model.dispose();
  const late = forwardBackward(model, batch);
  await t.rejects(late, { code: 'ERR_DISPOSED' });
  t.ok((await running).count > 0, 'the running call ends as usual');
  await Promise.all([disposed, twice]);
  t.same(order, ['call', 'dispose']);
  await model.dispose();
  await t.rejects(model.step(stepOptions), { code: 'ERR_DISPOSED' });
  await t.rejects(model.readTensor('param', 'transformer.wte.weight'), { code: 'ERR_DISPOSED' });
  await t.rejects(model.createDecoder(1, 1), { code: 'ERR_DISPOSED' });
  await t.rejects(decoder.append(Int32Array.of(0)), { code: 'ERR_DISPOSED' });
  t.throws(() => model.plan(1, 1), { code: 'ERR_DISPOSED' });
  t.throws(() => model.tensors(), { code: 'ERR_DISPOSED' });
  t.equal(model.device().device, 'cpu');
});

t.test('bad batches name the value and its place', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  const call = (ids: unknown, labels: unknown, b: unknown, s: unknown) =>
    model.forwardBackward(ids as Int32Array, labels as Int32Array, b as number, s as number);
  const { inputIds, labels } = batch;
  const idTooLarge = inputIds.with(11, 53);
  const idNegative = inputIds.with(0, -1);
  const cases: [string, () => Promise<unknown>, RegExp][] = [
    ['id too large', () => call(idTooLarge, labels, 2, 8), /from 0 to 52 .*received 53 at sequence 1, position 3/],
    ['negative id', () => call(idNegative, labels, 2, 8), /received -1 at sequence 0, position 0/],
    ['label too large', () => call(inputIds, labels.with(9, 53), 2, 8), /labels: .*-100.*received 53 at sequence 1/],
    ['label -1', () => call(inputIds, labels.with(0, -1), 2, 8), /received -1 at sequence 0/],
    ['label too large in evaluate', () => evaluate(model, { ...batch, labels: labels.with(0, 99) }), /received 99/],
    ['too few ids', () => call(inputIds, labels, 3, 8), /expected batchSize x blockSize = 3 x 8 ids, received 16/],
    ['too few labels', () => call(inputIds, labels.slice(1), 2, 8), /labels: .*received 15/],
    ['block too long', () => call(new Int32Array(17), new Int32Array(17), 1, 17), /nPositions 16, received 17/],
    ['no batch', () => call(new Int32Array(), new Int32Array(), 0, 8), /batchSize: expected an integer from 1/],
    ['huge batch', () => model.reserve(2 ** 30 + 1, 1), /from 1 to 1073741824, received the number 1073741825/],
    ['half a batch', () => call(inputIds, labels, 1.5, 8), /received the number 1.5/],
    ['NaN', () => call(inputIds, labels, Number.NaN, 8), /received the number NaN/],
    ['a plain array', () => call([1, 2], labels, 2, 8), /inputIds: expected an Int32Array, received an array/],
    ['another typed array', () => call(new Uint32Array(16), labels, 2, 8), /typed array of another type/],
    ['nothing', () => call(undefined, undefined, 2, 8), /received undefined/],
    ['forward, block too long', () => model.forward(new Int32Array(17), 1, 17), /nPositions 16/],
  ];
  for (const [name, run, message] of cases) await t.rejects(run(), { code: 'ERR_OPTIONS', message }, name);
  t.ok((await forwardBackward(model, batch)).count > 0, 'the model works after all of that');
});

t.test('bad configurations and options', async (t) => {
  const { createModel } = native();
  const plain = { device: 'cpu', precision: 'fp32', threads: 1, seed: 0, weights: 'random' } as const;
  const options = { ...plain, stochasticRounding: false };
  const make = (config: object, more: object = {}) =>
    createModel({ ...smallConfig, ...config }, { ...options, ...more } as never);
  const cases: [() => Promise<unknown>, string, RegExp][] = [
    [() => make({ nHead: 5 }), 'ERR_OPTIONS', /nHead: expected a divisor of nEmbd 24, received 5/],
    [() => make({ nHead: 0 }), 'ERR_OPTIONS', /nHead/],
    [() => make({ vocabSize: -1 }), 'ERR_OPTIONS', /config.vocabSize/],
    [() => make({ nLayer: 1.5 }), 'ERR_OPTIONS', /config.nLayer/],
    [() => make({ nEmbd: '24' }), 'ERR_OPTIONS', /config.nEmbd: expected an integer .* received the string '24'/],
    [() => make({ attnPdrop: 1 }), 'ERR_OPTIONS', /attnPdrop/],
    [() => make({ residPdrop: Number.NaN }), 'ERR_OPTIONS', /residPdrop/],
    [() => make({ attnPdrop: 0.99999999 }), 'ERR_OPTIONS', /attnPdrop: .*below 1, received 1 \(in float32\)/],
    [() => make({ layerNormEpsilon: 0 }), 'ERR_OPTIONS', /layerNormEpsilon/],
    [
      () => make({ layerNormEpsilon: 1e-40 }),
      'ERR_OPTIONS',
      /number of at least 1.17549435e-38, .*received 9.99\d+e-41/,
    ],
    [() => make({ initializerRange: -1 }), 'ERR_OPTIONS', /initializerRange/],
    [() => make({}, { device: 'tpu' }), 'ERR_OPTIONS', /device: expected 'cpu' or 'cuda:N', received 'tpu'/],
    [() => make({}, { precision: 'fp8' }), 'ERR_OPTIONS', /'fp32' or 'bf16', received 'fp8'/],
    [() => make({}, { stochasticRounding: 1 }), 'ERR_OPTIONS', /options.stochasticRounding: expected true or false/],
    [
      () => make({}, { stochasticRounding: true }),
      'ERR_OPTIONS',
      /stochasticRounding: expected precision bf16, .*fp32/,
    ],
    [() => make({}, { threads: -1 }), 'ERR_OPTIONS', /options.threads/],
    [() => make({}, { seed: 0.5 }), 'ERR_OPTIONS', /options.seed/],
    [() => make({}, { weights: 'ones' }), 'ERR_OPTIONS', /'random' or 'zeros', received 'ones'/],
    [() => createModel(null as never, options), 'ERR_OPTIONS', /config: expected an object, received null/],
    [() => createModel(smallConfig, undefined as never), 'ERR_OPTIONS', /options: expected an object/],
    [
      // Nearly as many parameters as there may be: 5 TiB.
      () => make({ vocabSize: 9_000_000, nEmbd: 96_000, nInner: 96_000 }, { precision: 'bf16' }),
      'ERR_MEMORY',
      /needs [\d.]+ GiB, [\d.]+ [GM]iB are free\n {2}hint: use a smaller model/,
    ],
    [() => make({ nLayer: 1 << 28, nEmbd: 1 << 20, nHead: 1 }), 'ERR_OPTIONS', /10\^12 parameters/],
  ];
  for (const [run, code, message] of cases) await t.rejects(run(), { code, message });
});

t.test('bad steps', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  await t.rejects(model.step(stepOptions), {
    code: 'ERR_OPTIONS',
    message: /no gradients; call forwardBackward first/,
  });
  await forwardBackward(model, batch);
  const bad = { learningRate: Number.NaN, beta1: 1, beta2: -0.1, eps: 0, weightDecay: -1, maxGradNorm: Infinity };
  for (const [key, value] of Object.entries(bad)) {
    const message = new RegExp(`${key}: expected a .*number`);
    await t.rejects(model.step({ ...stepOptions, [key]: value }), { code: 'ERR_OPTIONS', message }, key);
  }
  // As float32 they are infinite, 1, 1, 0, and 0 where a device takes subnormal numbers for it.
  const rounded = { learningRate: 1e39, beta1: 1 - 1e-9, beta2: 1 - 1e-9, maxGradNorm: 1e-50, eps: 1e-40 };
  for (const [key, value] of Object.entries(rounded)) {
    const message = new RegExp(`${key}: expected a .*float32`);
    await t.rejects(model.step({ ...stepOptions, [key]: value }), { code: 'ERR_OPTIONS', message }, key);
  }
  t.ok((await model.step(stepOptions)).applied, 'the gradients survived the refused steps');
  await t.rejects(model.step(stepOptions), { code: 'ERR_OPTIONS' }, 'a step uses them up');
  await forwardBackward(model, { ...batch, labels: new Int32Array(16).fill(-100) });
  await t.rejects(model.step(stepOptions), { code: 'ERR_OPTIONS', message: /no label/ });
});

t.test('no memory for a result is an error, not the end of the process', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  const real = globalThis.Float32Array;
  // What V8 throws from `new Float32Array` then.
  const refuses = class {
    constructor() {
      throw new RangeError('Array buffer allocation failed');
    }
  };
  globalThis.Float32Array = refuses as never;
  const calls = [model.forward(batch.inputIds, 2, 8), model.readTensor('param', 'transformer.wte.weight')];
  globalThis.Float32Array = real;
  const message = /^there is no memory for a result of \d+ numbers, \d+ bytes\n {2}hint: let go of arrays/;
  for (const call of calls) await t.rejects(call, { code: 'ERR_MEMORY', message });
  t.equal((await model.forward(batch.inputIds, 2, 8)).length, 2 * 8 * smallConfig.vocabSize);
});

t.test('counters are read before the model is asked: a getter may use it', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  let running: Promise<unknown> | undefined;
  const counters = {
    step: 3,
    get microStep() {
      running ??= forwardBackward(model, batch);
      return 4;
    },
  };
  t.throws(() => model.setCounters(counters), { code: 'ERR_BUSY' });
  await running;
  t.same(model.counters(), { step: 0, microStep: 1 });
});

t.test('a norm that is not finite changes nothing', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  await forwardBackward(model, batch);
  await model.step(stepOptions);
  const before = await readAll(model, 'param');
  const moment = await model.readTensor('exp_avg', 'transformer.wpe.weight');
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    await forwardBackward(model, batch);
    const gradient = await model.readTensor('grad', 'transformer.ln_f.bias');
    await model.writeTensor('grad', 'transformer.ln_f.bias', gradient.with(3, value));
    const { applied, gradNorm } = await model.step(stepOptions);
    t.equal(applied, false);
    t.notOk(Number.isFinite(gradNorm));
  }
  t.same(await readAll(model, 'param'), before);
  t.same(await model.readTensor('exp_avg', 'transformer.wpe.weight'), moment);
  t.same(model.counters(), { step: 1, microStep: 3 });
});

t.test('tensors', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  const names = model.tensors().map(({ name }) => name);
  t.equal(names.length, 2 + 12 * 2 + 2);
  t.same(names.slice(0, 4), [
    'transformer.wte.weight',
    'transformer.wpe.weight',
    'transformer.h.0.ln_1.weight',
    'transformer.h.0.ln_1.bias',
  ]);
  t.same(model.tensors().find(({ name }) => name.endsWith('h.1.attn.c_attn.weight'))?.shape, [24, 72]);
  for (const kind of ['param', 'exp_avg', 'exp_avg_sq'] as const) {
    for (const { name, shape } of model.tensors()) {
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i));
      await model.writeTensor(kind, name, data);
      t.same(await model.readTensor(kind, name), data);
    }
  }
  await t.rejects(model.readTensor('param', 'lm_head.weight'), { code: 'ERR_OPTIONS', message: /no tensor 'lm_head/ });
  await t.rejects(model.readTensor('weights' as never, 'x'), { code: 'ERR_OPTIONS', message: /'exp_avg_sq'/ });
  await t.rejects(model.writeTensor('param', 'transformer.ln_f.bias', new Float32Array(23)), {
    code: 'ERR_OPTIONS',
    message: /expected 24 numbers, received 23/,
  });
  await t.rejects(model.writeTensor('param', 'transformer.ln_f.bias', [1] as never), { code: 'ERR_OPTIONS' });
});

t.test('saved state continues bit for bit', async (t) => {
  const rates = { embdPdrop: 0.1, attnPdrop: 0.1, residPdrop: 0.1 };
  const [whole, resumed] = (await Promise.all([create(rates), create(rates)])) as [NativeModel, NativeModel];
  t.teardown(() => Promise.all([whole.dispose(), resumed.dispose()]));
  const step = async (model: NativeModel, salt: number) => {
    const { sum } = await forwardBackward(model, batchOf(smallConfig, 2, 8, salt));
    return [sum, (await model.step(stepOptions)).gradNorm];
  };
  for (let i = 0; i < 3; i++) await step(whole, i);
  for (const { name } of whole.tensors()) {
    for (const kind of ['param', 'exp_avg', 'exp_avg_sq'] as const) {
      await resumed.writeTensor(kind, name, await whole.readTensor(kind, name));
    }
  }
  resumed.setCounters(whole.counters());
  for (let i = 3; i < 6; i++) t.same(await step(resumed, i), await step(whole, i));
  for (const microStep of [-1, 0.5, Number.NaN]) {
    t.throws(() => resumed.setCounters({ step: 0, microStep }), { code: 'ERR_OPTIONS' });
  }
});

t.test('memory is planned before it is taken', async (t) => {
  // Of so many layers that a batch with nearly as many tokens as there may be takes 24 TiB.
  const model = await create({ nPositions: 1 << 20, nLayer: 32 });
  t.teardown(() => model.dispose());
  const small = model.plan(1, 16);
  const large = model.plan(8, 16);
  t.equal(small.total, small.parameters + small.gradients + small.moments + small.activations);
  t.equal(small.moments, 2 * small.gradients);
  t.ok(large.activations > small.activations && large.parameters === small.parameters);
  t.ok(small.free > 0);
  await t.rejects(model.reserve(1000, 1 << 20), {
    code: 'ERR_MEMORY',
    message:
      /batch size 1000, block size 1048576 .*needs [\d.]+ GiB, [\d.]+ [GM]iB are free\n {2}hint: (batch size \d+ fits|not even one block of 1048576 fits)/,
  });
  await model.reserve(2, 16);
  t.ok((await forwardBackward(model, batch)).count > 0);
});

t.test('classes cannot be constructed from outside', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  const Class = model.constructor as new (...values: unknown[]) => unknown;
  t.throws(() => new Class(), { message: /use createModel/ });
  t.throws(() => new Class({}), { message: /use createModel/ });
});

t.test('no object is taken for one of another class', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  const decoder = await model.createDecoder(1, 4);
  const other = { message: /Illegal invocation/ };
  for (const [from, to] of [
    [model, decoder],
    [decoder, model],
  ] as const) {
    const { constructor: _, ...members } = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(from));
    t.ok(Object.keys(members).length > 3);
    for (const [name, { get, value }] of Object.entries(members)) t.throws(() => (get ?? value).call(to), other, name);
  }
});

t.test('worker threads, ended in the middle of a call', async (t) => {
  const script = `
    const { parentPort, workerData } = require('node:worker_threads');
    (async () => {
      const { native } = await import(workerData.native);
      const shape = { threads: 1, seed: 0, weights: 'random' };
      const options = { device: 'cpu', precision: 'fp32', stochasticRounding: false, ...shape };
      const model = await native().createModel(workerData.config, options);
      const ids = new Int32Array(4 * 64).fill(1);
      for (;;) {
        const loss = await model.forwardBackward(ids, ids, 4, 64);
        parentPort.postMessage(loss.count);
      }
    })();`;
  const config = { ...smallConfig, nPositions: 64, nEmbd: 96, nInner: 384, vocabSize: 500 };
  const url = new URL('../../dist/native.js', import.meta.url).href;
  const counts = await Promise.all(
    [0, 1, 2].map(async () => {
      const worker = new Worker(script, { eval: true, workerData: { native: url, config } });
      const count = await new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
      await worker.terminate();
      return count;
    }),
  );
  t.same(counts, [256, 256, 256]);
  const model = await create();
  t.ok((await forwardBackward(model, batch)).count > 0, 'this thread is unharmed');
  await model.dispose();
});

t.test('devices', async (t) => {
  const names = await native().deviceNames();
  t.equal(names[0], 'cpu');
  const cpu = await native().examineDevice('cpu');
  t.match(cpu, { device: 'cpu', problem: null });
  await native().checkDevice('cpu');
  await t.rejects(native().checkDevice('tpu'), { code: 'ERR_OPTIONS', message: /expected 'cpu' or 'cuda:N'/ });
  await t.rejects(native().checkDevice(1 as never), { code: 'ERR_OPTIONS' });
  await t.rejects(native().examineDevice('tpu'), { code: 'ERR_OPTIONS', message: /expected 'cpu' or 'cuda:N'/ });
  t.ok(cpu.totalBytes >= cpu.freeBytes && cpu.freeBytes > 0);
  const problem = native().cudaProblem();
  t.ok(problem === null || problem.length > 10);
});

t.test('the addon takes no CUDA library along: the driver is opened where there is one', async (t) => {
  t.equal(typeof native().cudaProblem, 'function', 'the addon is loaded');
  const { sharedObjects } = process.report.getReport() as { sharedObjects: string[] };
  t.ok(
    sharedObjects.some((path) => path.endsWith('.node')),
    sharedObjects.join('\n'),
  );
  t.same(
    sharedObjects.filter((path) => /cudart|cublas|cudnn|nccl/.test(path)),
    [],
  );
});
