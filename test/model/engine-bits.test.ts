// The same inputs give the same bits: run after run, for any number of threads, and whatever ran in between.
import { createHash } from 'node:crypto';
import t from 'tap';
import type { NativeConfig, NativeModel } from '../../dist/native.js';
import { batchOf, create, evaluate, forwardBackward, readAll, smallConfig, stepOptions } from './engine-helpers.js';

const config: NativeConfig = {
  ...smallConfig,
  vocabSize: 301,
  nPositions: 70,
  nEmbd: 60,
  nInner: 130,
  embdPdrop: 0.1,
  attnPdrop: 0.1,
  residPdrop: 0.1,
};

/** A digest of every parameter. */
async function bitsOf(model: NativeModel): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const [name, values] of await readAll(model, 'param')) {
    digests[name] = createHash('sha256').update(values).digest('hex');
  }
  return digests;
}

async function train(model: NativeModel, between: () => Promise<unknown> = async () => {}) {
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = 0; step < 4; step++) {
    for (const [index, [b, t]] of [[3, 67] as const, [1, 1] as const, [2, 40] as const].entries()) {
      const batch = batchOf(config, b, t, step * 3 + index);
      losses.push((await forwardBackward(model, batch)).sum);
      await between();
    }
    norms.push((await model.step(stepOptions)).gradNorm);
  }
  return { losses, norms, parameters: await bitsOf(model) };
}

t.test('threads, repetition, other calls in between', async (t) => {
  const models = await Promise.all([
    create(config, { threads: 1 }),
    create(config, { threads: 2 }),
    create(config, { threads: 3 }),
    create(config, { threads: 2 }),
  ]);
  t.teardown(() => Promise.all(models.map((model) => model.dispose())));
  const [one, two, three, other] = models as [NativeModel, NativeModel, NativeModel, NativeModel];
  const truth = await train(one);
  t.ok(truth.losses.every(Number.isFinite));
  t.same(await train(two), truth, 'two threads');
  t.same(await train(three), truth, 'three threads');
  const batch = batchOf(config, 5, 70, 99);
  const noisy = await train(other, async () => {
    await evaluate(other, batch);
    const decoder = await other.createDecoder(1, 4);
    await decoder.append(Int32Array.of(1, 2));
    await decoder.dispose();
  });
  t.same(noisy, truth, 'evaluation and generation between micro-steps change nothing');
});

t.test('the start depends on the seed alone', async (t) => {
  const [a, b, c] = await Promise.all([create(), create({}, { threads: 1 }), create({}, { seed: 8 })]);
  t.teardown(() => Promise.all([a!.dispose(), b!.dispose(), c!.dispose()]));
  const start = await bitsOf(a!);
  t.same(await bitsOf(b!), start);
  t.notSame(await bitsOf(c!), start);
});

t.test('GPT-2 starts as its paper says', async (t) => {
  const model = await create({ vocabSize: 500, nEmbd: 96, nInner: 384, nLayer: 3, initializerRange: 0.02 });
  t.teardown(() => model.dispose());
  for (const [name, values] of await readAll(model, 'param')) {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
    if (name.endsWith('.bias'))
      t.ok(
        values.every((value) => value === 0),
        `${name} is 0`,
      );
    else if (name.includes('.ln_'))
      t.ok(
        values.every((value) => value === 1),
        `${name} is 1`,
      );
    else {
      const expected = name.includes('c_proj') ? 0.02 / Math.sqrt(6) : 0.02;
      const slack = 5 / Math.sqrt(values.length);
      t.ok(Math.abs(deviation / expected - 1) < slack, `${name}: deviation ${deviation}, expected ${expected}`);
      t.ok(Math.abs(mean / expected) < slack, `${name}: mean ${mean}`);
    }
  }
});
