// Attention probabilities against Transformers' `output_attentions` in float64 (make_attention_fixtures.py).
import { readFileSync } from 'node:fs';
import t from 'tap';
import { GPT2 } from '../../dist/index.js';
import {
  batchOf,
  create,
  createFrom,
  forwardBackward,
  readFixture,
  relativeL2,
  smallConfig,
} from './engine-helpers.js';

/** What Transformers attends to, and the error of PyTorch's own bf16. */
function readAttention(name: string) {
  const folder = new URL('fixtures/', import.meta.url);
  const index = JSON.parse(readFileSync(new URL('attention.json', folder), 'utf8'));
  const bytes = readFileSync(new URL(`attention-${name}.bin`, folder));
  const numbers = Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  const { shape, bf16 } = index[name] as { shape: [number, number, number, number, number]; bf16: number };
  const size = shape[1] * shape[2] * shape[3] * shape[4];
  return { bf16, layers: Array.from({ length: shape[0] }, (_, l) => numbers.subarray(l * size, (l + 1) * size)) };
}

for (const name of ['three-heads', 'long-block']) {
  t.test(name, async (t) => {
    const fixture = readFixture(name);
    const { layers, bf16 } = readAttention(name);
    for (const precision of ['fp32', 'bf16'] as const) {
      const model = await createFrom(fixture, { precision });
      t.teardown(() => model.dispose());
      const ids = Int32Array.from(fixture.batches[0]!.inputIds);
      const first = fixture.config.nLayer - layers.length;
      for (const [l, truth] of layers.entries()) {
        const all = await model.attention(ids, fixture.batchSize, fixture.blockSize, first + l);
        t.equal(all.length, fixture.batchSize * fixture.config.nHead * fixture.blockSize ** 2);
        const error = relativeL2(all.subarray(0, truth.length), truth);
        t.ok(error < (precision === 'fp32' ? 1e-5 : 2 * bf16), `${precision}, layer ${first + l}: ${error} (${bf16})`);
      }
    }
  });
}

t.test('each row is a distribution over the past; dropout plays no part', async (t) => {
  const config = { ...smallConfig, nPositions: 130 };
  const batch = batchOf(config, 2, 130);
  const model = await create(config);
  const dropping = await create({ ...config, embdPdrop: 0.5, attnPdrop: 0.5, residPdrop: 0.5 });
  const rows = await model.attention(batch.inputIds, 2, 130, 1);
  t.same(await dropping.attention(batch.inputIds, 2, 130, 1), rows);
  t.same(await model.attention(batch.inputIds, 2, 130, 1), rows, 'the same bits again');
  let worst = 0;
  for (let row = 0; row < 2 * 3 * 130; row++) {
    const weights = rows.subarray(row * 130, (row + 1) * 130);
    const query = row % 130;
    if (weights.subarray(query + 1).some((weight) => weight !== 0)) t.fail(`row ${row} looks ahead`);
    worst = Math.max(worst, Math.abs(weights.reduce((sum, weight) => sum + weight, 0) - 1));
  }
  t.ok(worst < 1e-5, `rows sum to 1: ${worst}`);
  await model.dispose();
  await dropping.dispose();
});

t.test('looking at attention leaves a training as it was', async (t) => {
  const train = async (look: boolean) => {
    const model = await create({ attnPdrop: 0.1 });
    const batch = batchOf(smallConfig, 2, 16);
    const losses: number[] = [];
    for (let step = 0; step < 3; step++) {
      losses.push((await forwardBackward(model, batch)).sum);
      if (look) await model.attention(batch.inputIds, 2, 16, step % 2);
    }
    const gradient = await model.readTensor('grad', 'transformer.wte.weight');
    await model.dispose();
    return { losses, gradient };
  };
  t.same(await train(true), await train(false));
});

t.test('what cannot be', async (t) => {
  const model = await create();
  t.teardown(() => model.dispose());
  const wrong = { code: 'ERR_OPTIONS', message: /layer: expected an integer from 0 to 1, received 2/ };
  await t.rejects(model.attention(Int32Array.of(1, 2), 1, 2, 2), wrong);
  await t.rejects(model.attention(Int32Array.of(1, 2), 1, 2, -1), { code: 'ERR_OPTIONS' });
  await t.rejects(model.attention(Int32Array.of(1, 53), 1, 2, 0), { code: 'ERR_OPTIONS', message: /received 53/ });
  await t.rejects(model.attention(Int32Array.of(1), 1, 2, 0), { code: 'ERR_OPTIONS' });
  await t.rejects(model.attention(new Int32Array(17), 1, 17, 0), { code: 'ERR_OPTIONS', message: /nPositions 16/ });
});

t.test('GPT2.attention', async (t) => {
  const model = await GPT2.create(
    { vocabSize: 13, nEmbd: 8, nHead: 2, nLayer: 2, nPositions: 6 },
    { device: 'cpu', threads: 1 },
  );
  t.teardown(() => model.dispose());
  const { probabilities } = await model.attention({ inputIds: [[1, 2, 3]], layer: 1 });
  t.same(probabilities.shape, [1, 2, 3, 3]);
  t.equal(probabilities.data.length, 18);
  t.ok(Math.abs((probabilities.data[0] as number) - 1) < 1e-5, 'the first position has only itself');
  for (const layer of [2, -1, 0.5, undefined]) {
    await t.rejects(model.attention({ inputIds: [[1]], layer: layer as never }), {
      code: 'ERR_OPTIONS',
      message: /layer: expected an integer from 0 to 1/,
    });
  }
});
