import {
  argmax,
  createFrom,
  type EngineOptions,
  readFixture,
  relativeL2,
  relativeMax,
  type Tap,
} from './engine-helpers.js';

/**
 * The engine in fp32 on a device against PyTorch in float64: see make_fixtures.py. "Relative" of a tensor is the L2 norm
 * of the error over the L2 norm of the truth, and besides that the largest error over the largest true value.
 */
export function testFixture(t: Tap, name: string, device: EngineOptions): void {
  const fixture = readFixture(name);
  const { batchSize, blockSize, config } = fixture;
  const batches = fixture.batches.map(({ inputIds, labels }) => ({
    inputIds: Int32Array.from(inputIds),
    labels: Int32Array.from(labels),
  }));
  const first = batches[0]!;

  t.test(`${name}: logits, loss, gradients`, async (t) => {
    const model = await createFrom(fixture, device);
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
    const model = await createFrom(fixture, device);
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
    const model = await createFrom(fixture, device);
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

/**
 * Flash-attention's rule for low precision: against the float64 truth, at most twice the error of PyTorch's own bf16
 * (autocast), which the fixtures hold. Errors are relative L2.
 */
export function testBf16Fixture(t: Tap, name: string, device: EngineOptions): void {
  t.test(`${name}: bf16`, async (t) => {
    const fixture = readFixture(name);
    const model = await createFrom(fixture, { ...device, precision: 'bf16' });
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
