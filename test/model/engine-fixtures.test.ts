// The engine against PyTorch in float64: see make_fixtures.py. "Relative" of a tensor is the L2 norm of the error over
// the L2 norm of the truth, and besides that the largest error over the largest true value.
import t from 'tap';
import { argmax, createFrom, fixtureNames, readFixture, relativeL2, relativeMax } from './engine-helpers.js';

for (const name of fixtureNames) {
  const fixture = readFixture(name);
  const { batchSize, blockSize, config } = fixture;
  const batches = fixture.batches.map(({ inputIds, labels }) => ({
    inputIds: Int32Array.from(inputIds),
    labels: Int32Array.from(labels),
  }));
  const first = batches[0]!;

  t.test(`${name}: logits, loss, gradients`, async (t) => {
    const model = await createFrom(fixture);
    t.teardown(() => model.dispose());

    const logits = await model.forward(first.inputIds, batchSize, blockSize);
    const truth = fixture.tensor('logits');
    t.equal(logits.length, truth.length, 'logits are (B, T, V)');
    t.ok(relativeL2(logits, truth) < 1e-5, `logits, relative L2 ${relativeL2(logits, truth)}`);
    t.ok(relativeMax(logits, truth) < 1e-5, `logits, relative maximum ${relativeMax(logits, truth)}`);

    const count = first.labels.filter((label) => label !== -100).length;
    const evaluated = await model.evaluate(first.inputIds, first.labels, batchSize, blockSize);
    t.equal(evaluated.count, count, 'labels that count');
    t.ok(Math.abs(evaluated.sum / count - fixture.loss) / fixture.loss < 1e-5, 'loss of evaluate');
    const trained = await model.forwardBackward(first.inputIds, first.labels, batchSize, blockSize);
    t.same(trained, evaluated, 'forwardBackward gives the loss of evaluate, bit for bit');

    for (const { name, shape } of model.tensors()) {
      const gradient = await model.readTensor('grad', name);
      t.equal(
        gradient.length,
        shape.reduce((a, b) => a * b, 1),
      );
      const error = relativeL2(gradient, fixture.tensor(`grad/${name}`));
      t.ok(error < 1e-4, `gradient of ${name}, relative L2 ${error}`);
    }
  });

  t.test(`${name}: ${fixture.steps.length} steps of AdamW`, async (t) => {
    const model = await createFrom(fixture);
    t.teardown(() => model.dispose());
    for (const [index, expected] of fixture.steps.entries()) {
      let sum = 0;
      let count = 0;
      for (let micro = 0; micro < fixture.microBatches; micro++) {
        const batch = batches[index * fixture.microBatches + micro]!;
        const loss = await model.forwardBackward(batch.inputIds, batch.labels, batchSize, blockSize);
        sum += loss.sum;
        count += loss.count;
      }
      const { gradNorm, applied } = await model.step(fixture.stepOptions);
      t.ok(applied);
      const lossError = Math.abs(sum / count - expected.loss) / expected.loss;
      const normError = Math.abs(gradNorm - expected.gradNorm) / expected.gradNorm;
      t.ok(lossError < 1e-5, `loss of step ${index}, relative error ${lossError}`);
      t.ok(normError < 1e-4, `gradient norm of step ${index}, relative error ${normError}`);
    }
    t.same(model.counters(), { step: fixture.steps.length, microStep: fixture.steps.length * fixture.microBatches });
  });

  t.test(`${name}: greedy generation`, async (t) => {
    const model = await createFrom(fixture);
    t.teardown(() => model.dispose());
    const decoder = await model.createDecoder(1, config.nPositions);
    const ids: number[] = [];
    let logits = await decoder.append(Int32Array.from(fixture.greedy.prompt));
    for (;;) {
      ids.push(argmax(logits));
      if (ids.length === fixture.greedy.ids.length) break;
      logits = await decoder.append(Int32Array.of(ids.at(-1)!));
    }
    t.same(ids, fixture.greedy.ids);
  });
}
