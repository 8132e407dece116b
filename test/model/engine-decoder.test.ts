import t from 'tap';
import { batchOf, create, relativeMax, smallConfig } from './engine-helpers.js';

const config = { ...smallConfig, nPositions: 300 };

t.test('logits of the decoder are those of forward', async (t) => {
  const model = await create(config);
  t.teardown(() => model.dispose());
  const sequences = 3;
  const length = 290;
  const { inputIds } = batchOf(config, sequences, length);
  const truth = await model.forward(inputIds, sequences, length);
  const decoder = await model.createDecoder(sequences, 300);
  let held = 0;
  // A first append of more than one round, single ones, and one that crosses a round's size again.
  for (const n of [150, 1, 1, 7, 131]) {
    const part = new Int32Array(sequences * n);
    for (let b = 0; b < sequences; b++) {
      part.set(inputIds.subarray(b * length + held, b * length + held + n), b * n);
    }
    const logits = await decoder.append(part);
    held += n;
    t.equal(decoder.length, held);
    t.equal(logits.length, sequences * config.vocabSize);
    for (let b = 0; b < sequences; b++) {
      const row = (b * length + held - 1) * config.vocabSize;
      const error = relativeMax(
        logits.subarray(b * config.vocabSize, (b + 1) * config.vocabSize),
        truth.subarray(row, row + config.vocabSize),
      );
      t.ok(error < 1e-5, `sequence ${b}, position ${held - 1}: ${error}`);
    }
  }
});

t.test('reset, full cache, bad ids', async (t) => {
  const model = await create(config);
  t.teardown(() => model.dispose());
  const decoder = await model.createDecoder(2, 5);
  const first = await decoder.append(Int32Array.of(1, 2, 3, 4));
  await t.rejects(decoder.append(Int32Array.of(1, 2, 3)), { code: 'ERR_OPTIONS', message: /each of the 2 sequences/ });
  await t.rejects(decoder.append(new Int32Array()), { code: 'ERR_OPTIONS' });
  await t.rejects(decoder.append(new Int32Array(8)), { code: 'ERR_OPTIONS', message: /2 of 5 positions/ });
  await t.rejects(decoder.append(Int32Array.of(0, 53)), { code: 'ERR_OPTIONS', message: /received 53 at sequence 1/ });
  t.equal(decoder.length, 2, 'a refused call leaves the cache as it was');
  decoder.reset();
  t.equal(decoder.length, 0);
  t.same(await decoder.append(Int32Array.of(1, 2, 3, 4)), first, 'the same bits after a reset');
  await t.rejects(model.createDecoder(1, 301), { code: 'ERR_OPTIONS', message: /nPositions 300/ });
  await t.rejects(model.createDecoder(0, 5), { code: 'ERR_OPTIONS' });
  await decoder.dispose();
  await decoder.dispose();
  await t.rejects(decoder.append(Int32Array.of(1, 2)), { code: 'ERR_DISPOSED' });
  t.throws(() => decoder.length, { code: 'ERR_DISPOSED' });
});

t.test('a decoder follows the weights and ends with its model', async (t) => {
  const model = await create(config);
  const decoder = await model.createDecoder(1, 5);
  const before = await decoder.append(Int32Array.of(1));
  const [{ name, shape }] = model.tensors() as [{ name: string; shape: number[] }];
  await model.writeTensor('param', name, new Float32Array(shape[0]! * shape[1]!).fill(0.1));
  decoder.reset();
  t.notSame(await decoder.append(Int32Array.of(1)), before);
  await model.dispose();
  await t.rejects(decoder.append(Int32Array.of(1)), { code: 'ERR_DISPOSED' });
  await decoder.dispose();
});
