// A whole run of the Trainer against PyTorch in float64: see make_run_fixture.py.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Batch, Json } from '../../dist/data/types.js';
import { GPT2, type GPT2Config } from '../../dist/index.js';
import type { BatchSource } from '../../dist/train/batch-stream.js';
import type { StepEvent } from '../../dist/train/events.js';
import type { TrainingOptions } from '../../dist/train/options.js';
import { learningRateAt, type Schedule, type ScheduleName } from '../../dist/train/schedule.js';
import { Trainer } from '../../dist/train/trainer.js';
import { relativeL2 } from './engine-helpers.js';
import { letters } from './tiny.js';

const FOLDER = 'test/model/fixtures';

interface RunFixture {
  config: GPT2Config;
  batchSize: number;
  blockSize: number;
  options: Partial<TrainingOptions> & { lr: number; minLr: number; maxSteps: number; warmupSteps: number };
  steps: { loss: number; gradNorm: number; learningRate: number }[];
  schedules: { [name: string]: number[] };
  tensors: { [name: string]: { offset: number; shape: number[] } };
}

const fixture: RunFixture = JSON.parse(readFileSync(join(FOLDER, 'run.json'), 'utf8'));
const bytes = readFileSync(join(FOLDER, 'run.bin'));

function tensor(name: string): Float32Array {
  const { offset, shape } = fixture.tensors[name];
  const size = shape.reduce((a, b) => a * b, 1);
  return Float32Array.from({ length: size }, (_, index) => bytes.readFloatLE(4 * (offset + index)));
}

/** The batches of the script, drawn by its generator. */
class DrawnBatches implements BatchSource {
  readonly batchSize = fixture.batchSize;
  readonly blockSize = fixture.blockSize;
  private seed = 1;

  state(): Json {
    return null;
  }

  restore(): void {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
    const { vocabSize } = fixture.config;
    const shape: [number, number] = [this.batchSize, this.blockSize];
    for (let step = 0; ; step++) {
      for (let micro = 0; micro < 2; micro++) {
        const ids = Int32Array.from({ length: shape[0] * shape[1] }, () => this.next() % vocabSize);
        const share = (3 * step + 5 * micro) % 8;
        const labels = ids.map((id) => {
          const keep = this.next() % 7 >= share;
          return keep ? (5 * id + (this.next() % 3)) % vocabSize : -100;
        });
        yield { inputIds: { data: ids, shape }, labels: { data: labels, shape } };
      }
    }
  }

  private next(): number {
    this.seed = (Math.imul(this.seed, 1_664_525) + 1_013_904_223) >>> 0;
    return this.seed >>> 8;
  }
}

/**
 * A bias of the keys adds the same to all scores of a row, so the softmax undoes it and its true gradient is 0: what AdamW
 * makes of the rounding error that is found instead is noise, in PyTorch too.
 */
function withoutKeys(bias: Float32Array): Float32Array {
  const third = bias.length / 3;
  return Float32Array.from([...bias.subarray(0, third), ...bias.subarray(2 * third)]);
}

t.test('200 steps of accumulation, clipping, AdamW, warmup and cosine', async (t) => {
  const model = await GPT2.create(fixture.config, { device: 'cpu', threads: 1 });
  t.teardown(() => model.dispose());
  for (const { name } of model.tensors) await model.writeTensor(name, tensor(`start/${name}`));
  const trainer = new Trainer({
    model,
    tokenizer: letters(fixture.config.vocabSize),
    train: new DrawnBatches(),
    out: join(t.testdir(), 'run'),
    ...fixture.options,
    saveEvery: 0,
  });
  const steps: StepEvent[] = [];
  for await (const event of trainer.run()) if (event.type === 'step') steps.push(event);

  t.equal(steps.length, 200);
  const worst = { loss: 0, gradNorm: 0, learningRate: 0 };
  for (const [index, truth] of fixture.steps.entries()) {
    for (const key of ['loss', 'gradNorm', 'learningRate'] as const) {
      worst[key] = Math.max(worst[key], Math.abs(steps[index][key] - truth[key]) / truth[key]);
    }
  }
  // Rounding in fp32, carried through 200 updates.
  t.ok(worst.loss < 1e-6, `loss, relative error ${worst.loss}`);
  t.ok(worst.gradNorm < 1e-5, `gradient norm, relative error ${worst.gradNorm}`);
  t.ok(worst.learningRate < 1e-12, `learning rate, relative error ${worst.learningRate}`);
  t.ok(steps.some(({ gradNorm }) => gradNorm > 1) && steps.some(({ gradNorm }) => gradNorm < 1), 'some are clipped');
  for (const { name } of model.tensors) {
    const [found, truth] = [await model.readTensor(name), tensor(`end/${name}`)].map((values) =>
      name.endsWith('c_attn.bias') ? withoutKeys(values) : values,
    );
    const error = relativeL2(found, truth);
    t.ok(error < 1e-5, `${name} after 200 steps, relative L2 ${error}`);
  }
});

t.test('200 learning rates of every schedule', async (t) => {
  const { lr, minLr, maxSteps, warmupSteps } = fixture.options;
  for (const [name, rates] of Object.entries(fixture.schedules)) {
    const floor = name === 'inverse-sqrt' ? 0 : minLr;
    const schedule: Schedule = { name: name as ScheduleName, lr, minLr: floor, warmupSteps, totalSteps: maxSteps };
    const worst = Math.max(...rates.map((rate, step) => Math.abs(learningRateAt(schedule, step) - rate) / rate));
    t.ok(worst < 1e-12, `${name}: relative error ${worst}`);
  }
  t.equal(Object.keys(fixture.schedules).length, 5);
});
