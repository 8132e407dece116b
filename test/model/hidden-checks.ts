import { readFileSync } from 'node:fs';
import {
  batchOf,
  create,
  createFrom,
  type EngineOptions,
  readFixture,
  relativeL2,
  type Tap,
} from './engine-helpers.js';

/** Transformers' hidden states of the first sequences of a batch, and the error of PyTorch's own bf16 on each. */
function readStates(name: string) {
  const folder = new URL('fixtures/', import.meta.url);
  const index = JSON.parse(readFileSync(new URL('hidden.json', folder), 'utf8'));
  const bytes = readFileSync(new URL(`hidden-${name}.bin`, folder));
  const numbers = Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  const { shape, bf16 } = index[name] as { shape: [number, number, number, number]; bf16: number[] };
  return { bf16, states: parts(numbers, shape[0]) };
}

/** An array in equal parts. */
function parts(numbers: Float32Array, count: number): Float32Array[] {
  const size = numbers.length / count;
  return Array.from({ length: count }, (_, i) => numbers.subarray(i * size, (i + 1) * size));
}

/** The residual stream on a device against Transformers' in float64 (make_hidden_fixtures.py), and against itself. */
export function testHiddenStates(t: Tap, device: EngineOptions): void {
  for (const name of ['three-heads', 'long-block']) {
    for (const precision of ['fp32', 'bf16'] as const) {
      t.test(`hidden states: ${name}, ${precision}`, async (t) => {
        const fixture = readFixture(name);
        const { batchSize, blockSize, config } = fixture;
        const truth = readStates(name);
        const model = await createFrom(fixture, { ...device, precision });
        t.teardown(() => model.dispose());
        const ids = Int32Array.from(fixture.batches[0]!.inputIds);
        const all = await model.hiddenStates(ids, batchSize, blockSize);
        t.equal(all.length, (config.nLayer + 1) * ids.length * config.nEmbd);
        const states = parts(all, config.nLayer + 1);
        for (const [l, expected] of truth.states.entries()) {
          const error = relativeL2(states[l]!.subarray(0, expected.length), expected);
          const limit = precision === 'fp32' ? 1e-5 : 2 * truth.bf16[l]!;
          t.ok(error < limit, `state ${l}: ${error}, PyTorch's bf16 ${truth.bf16[l]}`);
        }

        // The last one by the transposed embedding: what `forward` gives, but for the bf16 copy of the embedding.
        const [last, wte] = [states.at(-1)!, fixture.tensor('param/transformer.wte.weight')];
        const { nEmbd: c, vocabSize: v } = config;
        const logits = Float64Array.from({ length: ids.length * v }, (_, i) => {
          const [row, id] = [Math.floor(i / v) * c, (i % v) * c];
          let sum = 0;
          for (let j = 0; j < c; j++) sum += last[row + j]! * wte[id + j]!;
          return sum;
        });
        const error = relativeL2(await model.forward(ids, batchSize, blockSize), logits);
        t.ok(error < (precision === 'fp32' ? 1e-5 : 5e-3), `logits of the last state: ${error}`);
      });
    }
  }

  t.test('hidden states: the first is the sum of the embeddings; dropout and repetition play no part', async (t) => {
    const fixture = readFixture('three-heads');
    const config = { ...fixture.config, embdPdrop: 0.5, attnPdrop: 0.5, residPdrop: 0.5 };
    const batch = batchOf(config, 2, 9);
    const [wte, wpe] = ['wte', 'wpe'].map((name) => fixture.tensor(`param/transformer.${name}.weight`)) as [
      Float32Array,
      Float32Array,
    ];
    const c = config.nEmbd;
    const embeddings = Float32Array.from({ length: 18 * c }, (_, i) => {
      const [row, j] = [Math.floor(i / c), i % c];
      return wte[batch.inputIds[row]! * c + j]! + wpe[(row % 9) * c + j]!;
    });
    for (const precision of ['fp32', 'bf16'] as const) {
      const model = await createFrom(fixture, { ...device, precision });
      const dropping = await create(config, { ...device, precision, threads: 3 });
      t.teardown(() => Promise.all([model.dispose(), dropping.dispose()]));
      for (const { name } of model.tensors()) {
        await dropping.writeTensor('param', name, await model.readTensor('param', name));
      }
      const states = await model.hiddenStates(batch.inputIds, 2, 9);
      t.same(states.subarray(0, 18 * c), embeddings, `${precision}: bit for bit`);
      t.same(await model.hiddenStates(batch.inputIds, 2, 9), states, 'the same bits again');
      t.same(await dropping.hiddenStates(batch.inputIds, 2, 9), states, 'with dropout and other threads, too');
    }
  });
}
