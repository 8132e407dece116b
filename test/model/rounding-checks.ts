import { batchOf, create, forwardBackward, relativeL2, smallConfig, stepOptions, type Tap } from './engine-helpers.js';

/** What stochastic rounding promises of a device. */
export function testRounding(t: Tap, device = 'cpu'): void {
  const stochastic = { device, precision: 'bf16', stochasticRounding: true } as const;

  t.test('stochastic rounding: decided by seed and step, for all that reads the copies', async (t) => {
    const batch = batchOf(smallConfig, 2, 16);
    const make = async (options: Parameters<typeof create>[1]) => {
      const model = await create({}, options);
      t.teardown(() => model.dispose());
      return model;
    };
    const model = await make(stochastic);
    const logits = () => model.forward(batch.inputIds, 2, 16);
    const first = await logits();
    t.same(await logits(), first, 'the copies stay as they are');
    t.same(await (await make({ ...stochastic, threads: 1 })).forward(batch.inputIds, 2, 16), first, 'on any threads');
    const exact = await (await make({ device })).forward(batch.inputIds, 2, 16);
    const nearest = await (await make({ device, precision: 'bf16' })).forward(batch.inputIds, 2, 16);
    t.notSame(first, nearest);
    const [far, near] = [relativeL2(first, exact), relativeL2(nearest, exact)];
    t.ok(far > near && far < 4 * near, `more noise than to the nearest: ${far}, ${near}`);

    model.setCounters({ step: 3, microStep: 0 });
    const third = await logits();
    t.notSame(third, first, 'another step draws other numbers');
    const [decoder, v] = [await model.createDecoder(2, 16), smallConfig.vocabSize];
    model.setCounters({ step: 0, microStep: 0 });
    // The decoder sums in another order.
    const decoded = (await decoder.append(batch.inputIds)).subarray(0, v);
    const [same, other] = [first, third].map((all) => relativeL2(decoded, all.subarray(15 * v, 16 * v)));
    t.ok(same < other / 2, `the decoder sees the new copies: ${same}, ${other}`);
    t.same(await logits(), first);

    // Frozen, a matrix is rounded to the nearest, whatever the step.
    model.freeze(model.tensors().flatMap(({ name, shape }) => (shape.length === 2 ? [name] : [])));
    t.same(await logits(), nearest);
    model.setCounters({ step: 9, microStep: 0 });
    t.same(await logits(), nearest);
  });

  t.test('stochastic rounding: a model that is put together again goes on with the same bits', async (t) => {
    const batch = batchOf(smallConfig, 2, 16);
    const train = async (model: Awaited<ReturnType<typeof create>>, steps: number) => {
      const losses: number[] = [];
      for (let step = 0; step < steps; step++) {
        losses.push((await forwardBackward(model, batch)).sum);
        await model.step({ ...stepOptions, learningRate: 1e-2 });
      }
      return losses;
    };
    const [whole, parts] = [await create({}, stochastic), await create({}, stochastic)];
    t.teardown(() => Promise.all([whole.dispose(), parts.dispose()]));
    const expected = await train(whole, 6);
    await train(parts, 3);
    const again = await create({}, { ...stochastic, weights: 'zeros', threads: 1 });
    t.teardown(() => again.dispose());
    for (const { name } of parts.tensors()) {
      for (const kind of ['param', 'exp_avg', 'exp_avg_sq'] as const) {
        await again.writeTensor(kind, name, await parts.readTensor(kind, name));
      }
    }
    again.setCounters(parts.counters());
    t.same(await train(again, 3), expected.slice(3));
  });
}
