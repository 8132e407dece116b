// The engine on the CUDA device: against PyTorch as the CPU engine is, and in bf16 against the CPU engine.
import t from 'tap';
import type { NativeConfig, NativeModel } from '../../dist/native.js';
import {
  batchOf,
  create,
  type EngineOptions,
  fixtureNames,
  forwardBackward,
  readAll,
  relativeL2,
  smallConfig,
  stepOptions,
} from '../model/engine-helpers.js';
import { testBf16Fixture, testFixture } from '../model/fixture-checks.js';
import { testHiddenStates } from '../model/hidden-checks.js';
import { testRounding } from '../model/rounding-checks.js';
import { noKernels, useDevice } from './device.js';

/** Two tiles of positions, heads as wide as the tensor-core kernels take them, all kinds of dropout. */
const config: NativeConfig = {
  ...smallConfig,
  ...{ vocabSize: 301, nPositions: 80, nEmbd: 128, nHead: 2, nInner: 512, initializerRange: 0.05 },
  ...{ embdPdrop: 0.1, attnPdrop: 0.1, residPdrop: 0.1 },
};
const STEPS = 20;

interface Run {
  losses: number[];
  norms: number[];
  /** Of the first micro-step. */
  gradients: Map<string, Float32Array>;
  /** What the steps added to all parameters, one after the other. */
  update: Float64Array;
}

/** Twenty steps of two micro-batches. */
async function train(options: EngineOptions): Promise<Run> {
  const model: NativeModel = await create(config, options);
  try {
    const run: Run = { losses: [], norms: [], gradients: new Map(), update: new Float64Array() };
    const start = await readAll(model, 'param');
    for (let step = 0; step < STEPS; step++) {
      for (const micro of [0, 1]) {
        const { sum, count } = await forwardBackward(model, batchOf(config, 2, 70, (2 * step + micro) % 6));
        run.losses.push(sum / count);
        if (step + micro === 0) run.gradients = await readAll(model, 'grad');
      }
      run.norms.push((await model.step(stepOptions)).gradNorm);
    }
    const end = await readAll(model, 'param');
    run.update = Float64Array.from(
      [...end].flatMap(([name, values]) => [...values].map((x, i) => x - start.get(name)![i]!)),
    );
    return run;
  } finally {
    await model.dispose();
  }
}

// The kernels are looked at for races and the like, which takes half of the time, in ops_test and model_test.
process.env.KOTODAMA_SIM_CHECKS ??= 'none';

if (useDevice() === undefined) {
  t.plan(0, noKernels);
} else {
  for (const name of fixtureNames) {
    testFixture(t, name, { device: 'cuda:0' });
    testBf16Fixture(t, name, { device: 'cuda:0' });
  }

  t.test('bf16: no further from fp32 than twice what the CPU engine is, in losses, gradients, updates', async (t) => {
    const truth = await train({ device: 'cpu', precision: 'fp32' });
    const cpu = await train({ device: 'cpu', precision: 'bf16' });
    const cuda = await train({ device: 'cuda:0', precision: 'bf16' });
    t.ok(truth.losses.at(-1)! < 0.95 * truth.losses[0]!, `it learns: ${truth.losses[0]} to ${truth.losses.at(-1)}`);
    const check = (what: string, read: (run: Run) => ArrayLike<number>) => {
      const [found, own] = [cuda, cpu].map((run) => relativeL2(read(run), read(truth))) as [number, number];
      t.ok(found > 0 && found <= 2 * own, `${what}: ${found}, the CPU engine's is ${own}`);
    };
    check('losses', ({ losses }) => losses);
    check('gradient norms', ({ norms }) => norms);
    check(`what ${STEPS} steps changed`, ({ update }) => update);
    for (const name of truth.gradients.keys()) check(`gradient of ${name}`, ({ gradients }) => gradients.get(name)!);
  });

  testRounding(t, 'cuda:0');
  testHiddenStates(t, { device: 'cuda:0' });

  t.test('there are no weights of eight bits, which is said before anything is taken', async (t) => {
    const model = await create(config, { device: 'cuda:0' });
    await t.rejects(model.createDecoder(1, 4, true), {
      code: 'ERR_OPTIONS',
      message: /^int8: expected a model on the CPU, found one on the device 'cuda'/,
    });
    const decoder = await model.createDecoder(1, 4);
    t.equal((await decoder.append(Int32Array.of(1))).length, config.vocabSize);
    await model.dispose();
  });

  t.test('stochastic rounding draws the same numbers as on the CPU', async (t) => {
    const { inputIds, batchSize, blockSize } = batchOf(config, 2, 70);
    const logits = async (options: EngineOptions, step: number) => {
      const model = await create(config, { ...options, precision: 'bf16' });
      model.setCounters({ step, microStep: 0 });
      const values = await model.forward(inputIds, batchSize, blockSize);
      await model.dispose();
      return values;
    };
    for (const step of [0, 5]) {
      const cpu = await logits({ stochasticRounding: true }, step);
      const cuda = await logits({ device: 'cuda:0', stochasticRounding: true }, step);
      const apart = relativeL2(cuda, cpu);
      const noise = relativeL2(await logits({}, step), cpu);
      t.ok(apart < noise / 2, `${apart} from the CPU's, which is ${noise} from that of copies rounded to the nearest`);
    }
  });
}
