// The residual stream, on the CPU; the checks that the CUDA device shares are in hidden-checks.ts.
import t from 'tap';
import { GPT2 } from '../../dist/index.js';
import type { NativeModel } from '../../dist/native.js';
import { batchOf, create, forwardBackward, smallConfig, stepOptions } from './engine-helpers.js';
import { testHiddenStates } from './hidden-checks.js';

testHiddenStates(t, { device: 'cpu' });

t.test('looking at hidden states leaves a training as it was', async (t) => {
  const train = async (look: (model: NativeModel, batch: ReturnType<typeof batchOf>) => Promise<unknown>) => {
    const model = await create({ attnPdrop: 0.1, residPdrop: 0.1 });
    const batch = batchOf(smallConfig, 2, 16);
    const losses: number[] = [];
    for (let step = 0; step < 3; step++) {
      losses.push((await forwardBackward(model, batch)).sum);
      await look(model, batch);
      losses.push((await forwardBackward(model, batch)).sum);
      await look(model, batchOf(smallConfig, 3, 16));
      losses.push((await model.step(stepOptions)).gradNorm);
    }
    const weights = await model.readTensor('param', 'transformer.wte.weight');
    const counters = model.counters();
    await model.dispose();
    return { losses, weights, counters };
  };
  const looking = await train((model, { inputIds, batchSize, blockSize }) =>
    model.hiddenStates(inputIds, batchSize, blockSize),
  );
  t.same(looking, await train(async () => {}));
});

t.test('what cannot be', async (t) => {
  const model = await create({ nEmbd: 96, nPositions: 512 });
  t.teardown(() => model.dispose());
  await t.rejects(model.hiddenStates(Int32Array.of(1, 53), 1, 2), { code: 'ERR_OPTIONS', message: /received 53/ });
  await t.rejects(model.hiddenStates(Int32Array.of(1), 1, 2), { code: 'ERR_OPTIONS' });
  await t.rejects(model.hiddenStates(new Int32Array(513), 1, 513), { code: 'ERR_OPTIONS', message: /nPositions 512/ });
  const rows = 2 ** 13;
  await t.rejects(model.hiddenStates(new Int32Array(rows * 512), rows, 512), {
    code: 'ERR_OPTIONS',
    message: /hiddenStates: the hidden states would be 1207959552 numbers, .*\n.*use a smaller batch or block/,
  });
});

t.test('GPT2.hiddenStates', async (t) => {
  const config = { vocabSize: 13, nEmbd: 8, nHead: 2, nLayer: 3, nPositions: 6 };
  const inputIds = [
    [1, 2, 3, 4, 5],
    [12, 0, 7, 7, 2],
  ];
  for (const precision of ['fp32', 'bf16'] as const) {
    const model = await GPT2.create(config, { device: 'cpu', threads: 1, precision });
    t.teardown(() => model.dispose());
    const { hiddenStates } = await model.hiddenStates({ inputIds });
    t.equal(hiddenStates.length, 4);
    for (const { data, shape } of hiddenStates) {
      t.same(shape, [2, 5, 8]);
      t.equal(data.length, 80);
    }
    const [first, second] = hiddenStates.map(({ data }) => data);
    t.notSame(first, second, 'the blocks are apart');
    const last = hiddenStates[3]?.data as Float32Array;
    // ln_f of a new model neither scales nor shifts.
    const square = last.subarray(-8).reduce((sum, x) => sum + x ** 2 / 8, 0);
    t.ok(square > 0.9 && square < 1.1, `the last has left ln_f: its mean square is ${square}`);
  }
});
