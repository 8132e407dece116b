// Dropout's rate and scale are read off a network built so that its loss tells exactly what one dropped element became.
import t from 'tap';
import type { NativeConfig, NativeModel } from '../../dist/native.js';
import { batchOf, create, evaluate, forwardBackward, readAll, smallConfig, stepOptions } from './engine-helpers.js';

const rate = 0.3;
const rounds = 600;

/**
 * Two channels, two ids, one position. Everything is zero but what `write` sets: a path that adds (1, 0) to the residual
 * stream through one dropout. A huge epsilon makes ln_f linear (its weight undoes the division), and the head reads
 * channel 0 minus channel 1 for id 1, nothing for id 0. So loss = log(1 + exp(-z)) with z the value after dropout.
 */
async function probe(rates: Partial<NativeConfig>, write: Record<string, number[]>): Promise<NativeModel> {
  const model = await create({
    ...{ vocabSize: 2, nPositions: 1, nEmbd: 2, nLayer: 1, nHead: 1, nInner: 2, layerNormEpsilon: 1e6 },
    ...rates,
  });
  const values: Record<string, number[]> = {
    'transformer.wte.weight': [0, 0, 1, -1],
    'transformer.ln_f.weight': [1000, 1000],
    ...write,
  };
  for (const { name, shape } of model.tensors()) {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    data.set(values[name] ?? []);
    await model.writeTensor('param', name, data);
  }
  return model;
}

async function valueAfterDropout(model: NativeModel): Promise<number> {
  const loss = await model.forwardBackward(Int32Array.of(0), Int32Array.of(1), 1, 1);
  return -Math.log(Math.expm1(loss.sum));
}

const places: [string, Partial<NativeConfig>, Record<string, number[]>][] = [
  ['embedding', { embdPdrop: rate }, { 'transformer.wpe.weight': [1, 0] }],
  ['attention branch', { residPdrop: rate }, { 'transformer.h.0.attn.c_proj.bias': [1, 0] }],
  ['MLP branch', { residPdrop: rate }, { 'transformer.h.0.mlp.c_proj.bias': [1, 0] }],
  [
    'attention probabilities',
    { attnPdrop: rate },
    {
      'transformer.h.0.attn.c_attn.bias': [0, 0, 0, 0, 1, 0],
      'transformer.h.0.attn.c_proj.weight': [1, 0, 0, 1],
    },
  ],
];

for (const [place, rates, write] of places) {
  t.test(`${place}: rate and scale`, async (t) => {
    const model = await probe(rates, write);
    t.teardown(() => model.dispose());
    const values: number[] = [];
    for (let round = 0; round < rounds; round++) values.push(await valueAfterDropout(model));
    const kept = values.filter((value) => value > 0.5);
    const wrong = values.filter((value) => Math.abs(value) > 1e-4 && Math.abs(value - 1 / (1 - rate)) > 1e-4);
    t.same(wrong, [], 'every value is 0 or 1 / (1 - p)');
    const dropped = 1 - kept.length / rounds;
    const deviation = Math.sqrt((rate * (1 - rate)) / rounds);
    t.ok(Math.abs(dropped - rate) < 4 * deviation, `dropped ${dropped} of ${rounds}`);

    model.setCounters({ step: 0, microStep: 0 });
    const again: number[] = [];
    for (let round = 0; round < 20; round++) again.push(await valueAfterDropout(model));
    t.same(again, values.slice(0, 20), 'the counters bring the same masks back');

    const { sum } = await model.evaluate(Int32Array.of(0), Int32Array.of(1), 1, 1);
    t.ok(Math.abs(-Math.log(Math.expm1(sum)) - 1) < 1e-4, 'evaluation drops nothing');
  });
}

t.test('masks differ between micro-steps, seeds, layers', async (t) => {
  const config = { embdPdrop: 0.2, attnPdrop: 0.2, residPdrop: 0.2 };
  const batch = batchOf(smallConfig, 2, 16);
  const model = await create(config);
  const twin = await create(config);
  const other = await create(config, { seed: 8 });
  t.teardown(() => Promise.all([model.dispose(), twin.dispose(), other.dispose()]));
  for (const [name, data] of await readAll(model, 'param')) await other.writeTensor('param', name, data);
  const first = await forwardBackward(model, batch);
  t.same(await forwardBackward(twin, batch), first, 'same seed, same counter: same bits');
  t.not((await forwardBackward(model, batch)).sum, first.sum, 'next micro-step: another mask');
  t.not((await forwardBackward(other, batch)).sum, first.sum, 'another seed: another mask');
});

t.test('rate 0 is no dropout, bit for bit', async (t) => {
  const batch = batchOf(smallConfig, 2, 16);
  const model = await create();
  t.teardown(() => model.dispose());
  const evaluated = await evaluate(model, batch);
  for (const microStep of [0, 5, 2 ** 40]) {
    model.setCounters({ step: 0, microStep });
    t.same(await forwardBackward(model, batch), evaluated);
  }
  t.ok((await model.step(stepOptions)).applied);
});
