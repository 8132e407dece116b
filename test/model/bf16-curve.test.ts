import t from 'tap';
import { CounterRandom } from '../../dist/data/random.js';
import { GPT2 } from '../../dist/model/gpt2.js';

const STEPS = 200;
const WARMUP = 20;
const WINDOW = 10;
const BATCH = 4;
const CONFIG = { vocabSize: 65, nLayer: 4, nHead: 4, nEmbd: 128, nPositions: 64 };

/**
 * `length` ids of text with structure: words of a small vocabulary, the frequent ones often (Zipf), with id 0 between
 * them. A model learns first which letters there are, then the words.
 */
function writing(length: number, seed: number): Int32Array {
  const random = new CounterRandom(seed, 0);
  const words = Array.from({ length: 60 }, () =>
    Array.from({ length: 2 + random.below(6) }, () => 1 + random.below(64)),
  );
  const ids: number[] = [];
  while (ids.length < length)
    ids.push(...(words[Math.floor(words.length ** (random.below(1 << 20) / (1 << 20))) - 1] as number[]), 0);
  return Int32Array.from(ids.slice(0, length));
}

/** The loss of each step. */
async function losses(precision: 'fp32' | 'bf16', ids: Int32Array): Promise<number[]> {
  const model = await GPT2.create(CONFIG, { device: 'cpu', precision, seed: 1 });
  const shape: [number, number] = [BATCH, CONFIG.nPositions];
  const tokens = BATCH * CONFIG.nPositions;
  const found: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    const inputIds = { data: ids.slice(step * tokens, (step + 1) * tokens), shape };
    const labels = { data: ids.slice(step * tokens + 1, (step + 1) * tokens + 1), shape };
    found.push((await model.forwardBackward({ inputIds, labels })).loss);
    await model.step({
      learningRate: 1e-3 * Math.min(1, (step + 1) / WARMUP),
      betas: [0.9, 0.95],
      weightDecay: 0.1,
      maxGradNorm: 1,
    });
  }
  await model.dispose();
  return found;
}

/** The mean of each step's loss and the nine before it, from the end of the warmup on. */
function smooth(values: number[]): number[] {
  return values
    .map((_, step) => values.slice(Math.max(0, step + 1 - WINDOW), step + 1))
    .map((window) => window.reduce((sum, value) => sum + value) / window.length)
    .slice(WARMUP);
}

t.test('the loss curve of bf16 stays within 1 % of that of fp32', async (t) => {
  const ids = writing(STEPS * BATCH * CONFIG.nPositions + 1, 1);
  const fp32 = smooth(await losses('fp32', ids));
  const bf16 = smooth(await losses('bf16', ids));
  const far = bf16.map((loss, i) => Math.abs(loss / (fp32[i] as number) - 1));
  const worst = far.indexOf(Math.max(...far));
  t.ok((fp32.at(-1) as number) < 2, `it learned: ${fp32[0]} to ${fp32.at(-1)}`);
  t.notSame(bf16, fp32, 'the precisions differ');
  t.ok(
    (far[worst] as number) < 0.01,
    `at most ${(100 * (far[worst] as number)).toFixed(2)} % apart, at step ${WARMUP + worst + 1}: ${bf16[worst]} and ${fp32[worst]}`,
  );
});
