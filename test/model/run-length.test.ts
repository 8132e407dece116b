// How many steps a run has, and where its learning rate stands, however it was stopped and continued.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { writeChecksums } from '../../dist/checksums.js';
import { BlockDataset, BufferedShuffleDataset, DataLoader } from '../../dist/data/index.js';
import type { Batch } from '../../dist/data/types.js';
import type { StartEvent, StepEvent, TrainEvent, WarningEvent } from '../../dist/train/events.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

async function run(
  t: { teardown(work: () => unknown): void },
  options: Partial<TrainerOptions> & { out: string },
): Promise<TrainEvent[]> {
  const model = await tinyModel();
  t.teardown(() => model.dispose());
  const trainer = new Trainer({ tokenizer: letters(), train: new TinyLoader(6), lr: 1e-2, ...options, model });
  const seen: TrainEvent[] = [];
  for await (const event of trainer.run()) seen.push(event);
  return seen;
}

const start = (seen: TrainEvent[]) => seen[0] as StartEvent;
const rates = (seen: TrainEvent[]) =>
  seen.filter((event): event is StepEvent => event.type === 'step').map(({ learningRate }) => learningRate);
const warnings = (seen: TrainEvent[]) => seen.filter((event): event is WarningEvent => event.type === 'warning');

t.test('a run that counts only when it is continued counts whole epochs', async (t) => {
  const out = join(t.testdir(), 'run');
  const epochs = { out, epochs: 3, warmupSteps: 0 };
  t.match(start(await run(t, { ...epochs, schedule: 'constant', maxSteps: 4 })), {
    totalSteps: 4,
    stepsPerEpoch: null,
  });
  const seen = await run(t, { ...epochs, schedule: 'linear', resume: true });
  t.match(start(seen), { step: 4, stepsPerEpoch: 6, totalSteps: 18 });
  t.match(seen.at(-1), { type: 'end', step: 18, reason: 'completed' });
  // 1 - s/18 of the way from 1e-2 to 1e-3.
  const expected = Array.from({ length: 14 }, (_, index) => 1e-3 + 9e-3 * (1 - (index + 4) / 18));
  t.same(
    rates(seen).map((rate) => rate.toFixed(10)),
    expected.map((rate) => rate.toFixed(10)),
  );
});

t.test('epochs and maxSteps: the learning rate falls to the end that comes first', async (t) => {
  const folder = t.testdir();
  const linear = { schedule: 'linear', warmupSteps: 0, minLr: 0 } as const;
  const epochs = await run(t, { out: join(folder, 'a'), ...linear, epochs: 2, maxSteps: 1000 });
  t.match(start(epochs), { totalSteps: 12, stepsPerEpoch: 6 });
  t.equal(rates(epochs).at(-1)?.toFixed(8), (1e-2 / 12).toFixed(8));
  const steps = await run(t, { out: join(folder, 'b'), ...linear, epochs: 2, maxSteps: 5 });
  t.match(start(steps), { totalSteps: 5 });
  t.equal(rates(steps).at(-1)?.toFixed(8), (1e-2 / 5).toFixed(8));
});

t.test('without decay, too, the warmup is a tenth of the run', async (t) => {
  const folder = t.testdir();
  for (const schedule of ['constant', 'inverse-sqrt'] as const) {
    const options = { schedule, out: join(folder, schedule) };
    const seen = await run(t, { ...options, epochs: 5 });
    t.match(start(seen), { totalSteps: 30, stepsPerEpoch: 6, configuration: { training: { warmupSteps: 3 } } });
    t.same(
      rates(seen)
        .slice(0, 4)
        .map((rate) => rate.toFixed(8)),
      [0.25e-2, 0.5e-2, 0.75e-2, 1e-2].map((rate) => rate.toFixed(8)),
    );
    const shorter = await run(t, { ...options, out: `${options.out}-both`, epochs: 5, maxSteps: 10 });
    t.match(start(shorter), { totalSteps: 10 });
    t.equal(rates(shorter)[1], 1e-2, 'the shorter of the two decides');
    const longer = await run(t, { ...options, epochs: 6, resume: true });
    t.match(start(longer), { step: 30, totalSteps: 36, configuration: { training: { warmupSteps: 3 } } });
  }
});

t.test('an epoch is counted no further than maxSteps reaches', async (t) => {
  let read = 0;
  class Counted extends TinyLoader {
    override async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
      for await (const batch of { [Symbol.asyncIterator]: () => super[Symbol.asyncIterator]() }) {
        read++;
        yield batch as Batch;
      }
    }
  }
  const options = { train: new Counted(1000), schedule: 'linear', epochs: 2, maxSteps: 3, gradAccum: 4 } as const;
  const seen = await run(t, { out: join(t.testdir(), 'run'), ...options });
  t.match(start(seen), { totalSteps: 3, stepsPerEpoch: null });
  t.ok(read <= 6 + 12 + 1, `${read} batches were read`);
});

t.test('validation on the training data moves nothing, by a loader of its own', async (t) => {
  const folder = t.testdir();
  const losses = (seen: TrainEvent[]) =>
    seen.filter((event): event is StepEvent => event.type === 'step').map(({ loss }) => loss);
  const options = { maxSteps: 5, evalEvery: 100, evalBatches: 0 };
  const dataset = () => {
    const texts = Array.from({ length: 12 }, (_, index) => 'abcdefghijklmnop'.slice(index));
    const blocks = BlockDataset.fromTexts(texts, { tokenizer: letters(), blockSize: 8 });
    return new BufferedShuffleDataset(blocks, { bufferSize: 4 });
  };
  const loader = (of = dataset()) => new DataLoader(of, { batchSize: 2 });
  const alone = losses(await run(t, { out: join(folder, 'a'), ...options, train: loader() }));
  const both = dataset();
  const parts = { train: loader(both), valid: loader(both) };
  t.same(losses(await run(t, { out: join(folder, 'b'), ...options, ...parts })), alone);
  const one = loader();
  await t.rejects(run(t, { out: join(folder, 'c'), ...options, train: one, valid: one }), {
    code: 'ERR_OPTIONS',
    message: /: valid: expected a loader of its own, received that of train$/,
  });
});

t.test('an epoch whose length is known is told without being asked for', async (t) => {
  const train = Object.assign(new TinyLoader(6), { batchesPerEpoch: 6 });
  t.match(start(await run(t, { out: join(t.testdir(), 'run'), train, gradAccum: 4, maxSteps: 2 })), {
    stepsPerEpoch: 2,
  });
  t.equal(train.open, 0);
});

t.test('a run that is made longer does not warm up again, unless it is told to', async (t) => {
  const folder = t.testdir();
  const begin = (name: string) => run(t, { out: join(folder, name), maxSteps: 20, schedule: 'constant' });
  t.equal(rates(await begin('a'))[1], (1e-2 * 2) / 3, 'W is 2');
  const longer = await run(t, { out: join(folder, 'a'), maxSteps: 400, schedule: 'constant', resume: true });
  t.ok(
    rates(longer).every((rate) => rate === 1e-2),
    `${rates(longer)[0]}`,
  );
  await begin('b');
  const told = { schedule: 'constant', warmupSteps: 39, resume: true } as const;
  t.equal(rates(await run(t, { out: join(folder, 'b'), maxSteps: 40, ...told }))[0], (1e-2 * 21) / 40);

  // Older releases did not note it.
  await begin('c');
  const checkpoint = join(folder, 'c/checkpoints/step-00000020');
  const state = JSON.parse(readFileSync(join(checkpoint, 'trainer_state.json'), 'utf8'));
  t.equal(state.warmupSteps, 2);
  delete state.warmupSteps;
  writeFileSync(join(checkpoint, 'trainer_state.json'), JSON.stringify(state));
  await writeChecksums(checkpoint);
  const old = await run(t, { out: join(folder, 'c'), maxSteps: 400, schedule: 'constant', resume: true });
  t.equal(rates(old)[0], (1e-2 * 21) / 41);
});

t.test('another length under a schedule that decays: the learning rate before and after is told', async (t) => {
  const out = join(t.testdir(), 'run');
  const linear = { out, schedule: 'linear', warmupSteps: 0, minLr: 1e-3 } as const;
  await run(t, { ...linear, maxSteps: 10 });
  const longer = await run(t, { ...linear, maxSteps: 20, saveEvery: 15, resume: true });
  const change = 'the run is one of 20 steps now, and was one of 10 steps: its learning rate goes on with ';
  t.same(
    warnings(longer).map(({ message }) => message),
    [`${change}5.50e-3 in place of 1.00e-3`],
  );
  t.equal(rates(longer)[0]?.toExponential(2), '5.50e-3');
  t.same(warnings(await run(t, { ...linear, maxSteps: 20, resume: true })).length, 1, 'but that it has ended');
  const steady = await run(t, { ...linear, maxSteps: 22, schedule: 'constant', resume: true });
  t.match(
    warnings(steady).map(({ message }) => message),
    [
      /^the run goes on with other options: schedule/,
      /now, and was one of 20 steps: .* 1\.00e-2 in place of 1\.00e-3$/,
    ],
  );
});

t.test('a warmup that the epochs do not reach the end of is told', async (t) => {
  const folder = t.testdir();
  const seen = await run(t, { out: join(folder, 'a'), epochs: 1, warmupSteps: 99 });
  t.match(warnings(seen), [
    {
      code: 'ERR_OPTIONS',
      message:
        /^the warmup has 99 steps and the whole run 6: .* no higher than 6\.00e-4; choose .*--warmup-steps \(API/,
    },
  ]);
  t.equal(rates(seen).at(-1), 6e-4);
  t.same(warnings(await run(t, { out: join(folder, 'b'), epochs: 1, warmupSteps: 6 })), []);
});

t.test('an epoch that ends before its first step is full is told', async (t) => {
  const folder = t.testdir();
  const epochs = async (name: string, more: Partial<TrainerOptions>) =>
    warnings(await run(t, { out: join(folder, name), schedule: 'constant', warmupSteps: 0, ...more }));
  const cure = /; choose a smaller batch size, gradAccum or block size \(--batch-size, /;
  const [short, ...others] = await epochs('a', { epochs: 1, gradAccum: 7 });
  t.match(short, { step: 1, code: 'ERR_OPTIONS', message: cure });
  t.match(short?.message, /^an epoch has only 12 blocks, fewer than the 14 of a step: each step learns from 12;/);
  t.same(others, []);
  const [over, ...more] = await epochs('b', { maxSteps: 3, gradAccum: 7 });
  t.match(over?.message, /^an epoch has fewer blocks than the 14 of a step, which reads it more than once;/);
  t.same(more, []);
  t.same(await epochs('c', { epochs: 2, gradAccum: 6 }), []);
});
