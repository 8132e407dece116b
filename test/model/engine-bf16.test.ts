// Flash-attention's rule for low precision: against the float64 truth, at most twice the error of PyTorch's own bf16
// (autocast), which the fixtures hold. Errors are relative L2.
import t from 'tap';
import {
  batchOf,
  create,
  createFrom,
  fixtureNames,
  forwardBackward,
  readFixture,
  relativeL2,
  smallConfig,
  stepOptions,
} from './engine-helpers.js';

for (const name of fixtureNames) {
  t.test(name, async (t) => {
    const fixture = readFixture(name);
    const model = await createFrom(fixture, { precision: 'bf16' });
    t.teardown(() => model.dispose());
    const ids = Int32Array.from(fixture.batches[0]!.inputIds);
    const labels = Int32Array.from(fixture.batches[0]!.labels);

    const logits = await model.forward(ids, fixture.batchSize, fixture.blockSize);
    const error = relativeL2(logits, fixture.tensor('logits'));
    t.ok(error < 2 * fixture.bf16.logits, `logits ${error}, PyTorch ${fixture.bf16.logits}`);
    t.ok(error > 1e-4, 'it does compute in bf16');

    const { sum, count } = await model.forwardBackward(ids, labels, fixture.batchSize, fixture.blockSize);
    const lossError = Math.abs(sum / count - fixture.loss) / fixture.loss;
    // One loss is one number: PyTorch's error on it may be small by luck.
    t.ok(lossError < 2 * Math.max(fixture.bf16.loss, 1e-3), `loss ${lossError}, PyTorch ${fixture.bf16.loss}`);

    for (const { name } of model.tensors()) {
      const gradient = await model.readTensor('grad', name);
      const error = relativeL2(gradient, fixture.tensor(`grad/${name}`));
      t.ok(error < 2 * fixture.bf16.gradients[name]!, `${name} ${error}, PyTorch ${fixture.bf16.gradients[name]}`);
    }
  });
}

t.test('bf16 learns, masters stay fp32, the decoder agrees with forward', async (t) => {
  const model = await create({}, { precision: 'bf16' });
  t.teardown(() => model.dispose());
  const batch = batchOf(smallConfig, 2, 16);
  const first = await forwardBackward(model, batch);
  const before = await model.readTensor('param', 'transformer.h.0.mlp.c_fc.weight');
  // A change far below bf16's resolution.
  await model.step({ ...stepOptions, learningRate: 1e-7 });
  const after = await model.readTensor('param', 'transformer.h.0.mlp.c_fc.weight');
  t.notSame(after, before, 'small updates are kept');
  t.ok(relativeL2(after, before) < 1e-4);
  for (let step = 0; step < 30; step++) {
    await forwardBackward(model, batch);
    await model.step({ ...stepOptions, learningRate: 1e-2 });
  }
  const last = await forwardBackward(model, batch);
  t.ok(last.sum < 0.5 * first.sum, `${first.sum} to ${last.sum}`);

  const decoder = await model.createDecoder(2, 16);
  const logits = await decoder.append(batch.inputIds);
  const truth = await model.forward(batch.inputIds, 2, 16);
  const v = smallConfig.vocabSize;
  t.ok(relativeL2(logits.subarray(0, v), truth.subarray(15 * v, 16 * v)) < 1e-2);
});
