// Gradients against central differences of the loss the engine itself reports. With dropout the same counters give the
// same masks, so this also shows that backward uses the masks of forward.
import t from 'tap';
import type { NativeConfig } from '../../dist/native.js';
import { batchOf, create, forwardBackward, readAll, relativeL2, smallConfig } from './engine-helpers.js';

/** Numbers in [-1, 1) from a fixed rule. */
function noise(length: number, salt: number): Float64Array {
  let state = salt >>> 0;
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

const cases: [string, Partial<NativeConfig>][] = [
  ['no dropout', {}],
  ['embedding dropout', { embdPdrop: 0.25 }],
  ['attention dropout', { attnPdrop: 0.25 }],
  ['residual dropout', { residPdrop: 0.25 }],
  ['all dropouts', { embdPdrop: 0.1, attnPdrop: 0.3, residPdrop: 0.2 }],
];

for (const [name, rates] of cases) {
  t.test(`directional derivatives: ${name}`, async (t) => {
    const model = await create(rates);
    t.teardown(() => model.dispose());
    const batch = batchOf(smallConfig, 3, 13);
    const counters = { step: 0, microStep: 3 };
    model.setCounters(counters);
    await forwardBackward(model, batch);
    const gradients = await readAll(model, 'grad');
    const start = await readAll(model, 'param');

    for (const direction of [1, 2, 3]) {
      // Noise plus a part along the gradient: a random direction alone has a slope too small for fp32 losses.
      const along = new Map<string, Float64Array>();
      let slope = 0;
      for (const [tensor, gradient] of gradients) {
        const random = noise(gradient.length, direction * 7919 + gradient.length);
        const largest = gradient.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-12);
        const d = random.map((value, i) => 0.5 * value + gradient[i]! / largest);
        along.set(tensor, d);
        slope += d.reduce((sum, value, i) => sum + value * gradient[i]!, 0);
      }
      const lossAt = async (distance: number) => {
        for (const [tensor, data] of start) {
          const d = along.get(tensor)!;
          await model.writeTensor(
            'param',
            tensor,
            data.map((value, i) => value + distance * d[i]!),
          );
        }
        model.setCounters(counters);
        const { sum, count } = await forwardBackward(model, batch);
        return sum / count;
      };
      const difference = async (h: number) => ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
      const h = 2e-3;
      // Richardson: removes the error's h^2 term.
      const estimate = (4 * (await difference(h / 2)) - (await difference(h))) / 3;
      const error = Math.abs(estimate - slope) / Math.abs(slope);
      t.ok(error < 1e-3, `direction ${direction}: slope ${slope}, differences give ${estimate}, relative ${error}`);
    }
  });
}

t.test('accumulation equals one batch', async (t) => {
  const whole = batchOf(smallConfig, 4, 9);
  const half = (first: number) => ({
    ...whole,
    batchSize: 2,
    inputIds: whole.inputIds.slice(first * 18, (first + 1) * 18),
    labels: whole.labels.slice(first * 18, (first + 1) * 18),
  });
  // Halves with different numbers of labels: a mean of means would differ.
  whole.labels.fill(-100, 20, 30);
  const one = await create();
  const two = await create();
  t.teardown(() => Promise.all([one.dispose(), two.dispose()]));
  const loss = await forwardBackward(one, whole);
  const parts = [await forwardBackward(two, half(0)), await forwardBackward(two, half(1))];
  t.equal(parts[0]!.count + parts[1]!.count, loss.count);
  t.ok(Math.abs(parts[0]!.sum + parts[1]!.sum - loss.sum) / loss.sum < 1e-6);
  const truth = await readAll(one, 'grad');
  for (const [name, gradient] of await readAll(two, 'grad')) {
    const error = relativeL2(gradient, truth.get(name)!);
    t.ok(error < 1e-5, `${name}: ${error}`);
  }
});

t.test('zeroGradients and step forget what was accumulated', async (t) => {
  const batch = batchOf(smallConfig, 2, 8);
  const model = await create();
  t.teardown(() => model.dispose());
  await forwardBackward(model, batch);
  const fresh = await readAll(model, 'grad');
  await forwardBackward(model, batchOf(smallConfig, 3, 5, 1));
  await model.zeroGradients();
  await t.rejects(model.readTensor('grad', 'transformer.wte.weight'), { code: 'ERR_OPTIONS' });
  await forwardBackward(model, batch);
  t.same(await readAll(model, 'grad'), fresh, 'the same bits as without the forgotten part');
});

t.test('a batch without labels', async (t) => {
  const batch = batchOf(smallConfig, 2, 8);
  const model = await create();
  t.teardown(() => model.dispose());
  const none = { ...batch, labels: new Int32Array(16).fill(-100) };
  t.same(await forwardBackward(model, none), { sum: 0, count: 0 });
  for (const [name, gradient] of await readAll(model, 'grad')) {
    t.ok(
      gradient.every((value) => value === 0),
      `${name} has no gradient`,
    );
  }
});
