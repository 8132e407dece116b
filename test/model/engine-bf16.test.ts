import t from 'tap';
import { batchOf, create, forwardBackward, relativeL2, smallConfig, stepOptions } from './engine-helpers.js';
import { testRounding } from './rounding-checks.js';

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

testRounding(t);
