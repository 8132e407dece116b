import t from 'tap';
import type { NativeModel } from '../../dist/native.js';
import { batchOf, create, forwardBackward, relativeMax, smallConfig, stepOptions } from './engine-helpers.js';

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
    t.equal(decoder.length(), held);
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
  t.equal(decoder.length(), 2, 'a refused call leaves the cache as it was');
  decoder.reset();
  t.equal(decoder.length(), 0);
  t.same(await decoder.append(Int32Array.of(1, 2, 3, 4)), first, 'the same bits after a reset');
  await t.rejects(model.createDecoder(1, 301), { code: 'ERR_OPTIONS', message: /nPositions 300/ });
  await t.rejects(model.createDecoder(0, 5), { code: 'ERR_OPTIONS' });
  await decoder.dispose();
  await decoder.dispose();
  await t.rejects(decoder.append(Int32Array.of(1, 2)), { code: 'ERR_DISPOSED' });
  t.throws(() => decoder.length(), { code: 'ERR_DISPOSED' });
});

t.test('logits go to an array of the caller, if it is still there', async (t) => {
  const model = await create(config);
  t.teardown(() => model.dispose());
  const decoder = await model.createDecoder(1, 9);
  const expected = await decoder.append(Int32Array.of(1));
  decoder.reset();
  const room = new Float32Array(config.vocabSize);
  t.equal(await decoder.append(Int32Array.of(1), room), room);
  t.same(room, expected);
  const call = decoder.append(Int32Array.of(2), room);
  const moved = structuredClone(room, { transfer: [room.buffer] });
  await t.rejects(call, {
    code: 'ERR_OPTIONS',
    message: /^logits: expected a Float32Array of 53 elements, received one of 0$/,
  });
  t.equal(decoder.length(), 1, 'the cache is as it was');
  const short = new Float32Array(52);
  await t.rejects(decoder.append(Int32Array.of(2), short), { code: 'ERR_OPTIONS', message: /received one of 52$/ });
  const doubles = new Float64Array(53) as never;
  await t.rejects(decoder.append(Int32Array.of(2), doubles), { message: /received a typed array of another type$/ });
  t.same(moved, expected, 'what was transferred is not written to');
  t.equal((await decoder.append(Int32Array.of(3))).length, config.vocabSize, 'the decoder works after that');
  const gone = decoder.append(Int32Array.of(4), moved);
  structuredClone(moved, { transfer: [moved.buffer] });
  const disposed = decoder.dispose();
  await t.rejects(gone, { code: 'ERR_OPTIONS', message: /received one of 0$/ }, 'disposed before the call has ended');
  await disposed;
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

/** A weight as eight bits hold it: `scale` times an integer, with a scale for each row or column of (rows, columns). */
function rounded(values: Float32Array, columns: number, each: 'row' | 'column'): Float32Array {
  const groupOf = (i: number) => (each === 'row' ? Math.floor(i / columns) : i % columns);
  const scales: number[] = [];
  values.forEach((value, i) => {
    scales[groupOf(i)] = Math.max(scales[groupOf(i)] ?? 0, Math.abs(value) / 127);
  });
  return values.map((value, i) => Math.round(value / (scales[groupOf(i)] as number)) * (scales[groupOf(i)] as number));
}

t.test('int8: after the prompt, logits are those of matrices that are rounded to eight bits', async (t) => {
  const matrices = /wte|c_attn\.weight|c_proj\.weight|c_fc\.weight/;
  for (const precision of ['fp32', 'bf16'] as const) {
    const [model, other] = [await create(config, { precision }), await create(config, { precision })];
    t.teardown(() => Promise.all([model.dispose(), other.dispose()]));
    const round = async (target: NativeModel, names: RegExp) => {
      for (const { name, shape } of target.tensors().filter(({ name }) => names.test(name))) {
        const values = await target.readTensor('param', name);
        await target.writeTensor(
          'param',
          name,
          rounded(values, shape[1] as number, /wte/.test(name) ? 'row' : 'column'),
        );
      }
    };
    // The embedding is looked up with all of its bits, so that both models begin with one that eight bits hold.
    await round(model, /wte/);
    await round(other, /wte/);
    const n = 7;
    const [int8, plain] = [await model.createDecoder(n, 40, true), await other.createDecoder(n, 40)];
    const prompt = batchOf(config, n, 9).inputIds;
    t.same(await int8.append(prompt), await plain.append(prompt), 'the prompt is read with the weights themselves');
    const several = batchOf(config, n, 2).inputIds;
    t.same(await int8.append(several), await plain.append(several), 'and so are several ids at once');
    await round(other, matrices);
    for (const salt of [1, 2, 3]) {
      const ids = batchOf(config, n, 1, salt).inputIds;
      const [found, expected] = [await int8.append(ids), await plain.append(ids)];
      const error = relativeMax(found, expected);
      // In bf16 the rounded weights of `other` are rounded once more.
      t.ok(error < (precision === 'fp32' ? 1e-5 : 2e-2), `${precision}, ${salt}: ${error}`);
    }
  }
});

t.test('int8: the same bits for any number of threads; new weights are seen', async (t) => {
  const ids = batchOf(config, 8, 1).inputIds;
  const cFc = 'transformer.h.0.mlp.c_fc.weight';
  const logits: Float32Array[][] = [];
  for (const threads of [1, 2, 3]) {
    const model = await create(config, { threads });
    t.teardown(() => model.dispose());
    const decoder = await model.createDecoder(8, 10, true);
    const append = async () => {
      decoder.reset();
      return [await decoder.append(ids), await decoder.append(ids)] as const;
    };
    const [first, second] = await append();
    const plain = await model.createDecoder(8, 10);
    t.same(await plain.append(ids), first, 'a prompt of one id is read with the weights themselves');
    t.notSame(await plain.append(ids), second);
    await forwardBackward(model, batchOf(config, 2, 10));
    await model.step({ ...stepOptions, learningRate: 0.1 });
    const stepped = await append();
    await model.writeTensor('param', cFc, (await model.readTensor('param', cFc)).fill(0));
    const written = await append();
    for (const found of [stepped, written]) logits.push([...found]);
    // One that makes its copy of these weights for the first time.
    const fresh = await model.createDecoder(8, 10, true);
    t.same([await fresh.append(ids), await fresh.append(ids)], written, 'the copy is that of the newest weights');
    t.notSame(written, stepped);
  }
  t.same(logits.slice(2, 4), logits.slice(0, 2));
  t.same(logits.slice(4), logits.slice(0, 2));
});

t.test('int8: more sequences than it is for, and wrong values', async (t) => {
  const model = await create(config);
  t.teardown(() => model.dispose());
  const [int8, plain] = [await model.createDecoder(9, 5, true), await model.createDecoder(9, 5)];
  for (const salt of [1, 2]) {
    const ids = batchOf(config, 9, 1, salt).inputIds;
    t.same(await int8.append(ids), await plain.append(ids), 'computed with the weights themselves');
  }
  await t.rejects(model.createDecoder(1, 5, 1 as unknown as boolean), { code: 'ERR_OPTIONS', message: /int8/ });
});
