// Data that does not come, or is found to be wrong when the run is long under way.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { BlockDataset, DataLoader, stackBlocks } from '../../dist/data/index.js';
import type { Batch } from '../../dist/data/types.js';
import { KotodamaError } from '../../dist/errors.js';
import type { GPT2 } from '../../dist/model/gpt2.js';
import type { StepEvent, TrainEvent } from '../../dist/train/events.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

type Teardown = { teardown(work: () => unknown): void };

async function ownModel(t: Teardown): Promise<GPT2> {
  const model = await tinyModel({ dropout: 0.1 });
  t.teardown(() => model.dispose());
  return model;
}

interface Outcome {
  seen: TrainEvent[];
  error: unknown;
}

async function run(
  t: Teardown,
  options: Partial<TrainerOptions> & { out: string },
  signal?: AbortSignal,
): Promise<Outcome> {
  const shared = {
    tokenizer: letters(),
    train: new TinyLoader(20),
    maxSteps: 6,
    lr: 1e-2,
    schedule: 'constant',
  } as const;
  const trainer = new Trainer({ ...shared, model: await ownModel(t), ...options });
  const seen: TrainEvent[] = [];
  try {
    for await (const event of trainer.run({ signal })) seen.push(event);
  } catch (error) {
    return { seen, error };
  }
  return { seen, error: undefined };
}

const steps = (seen: TrainEvent[]) =>
  seen
    .filter((event): event is StepEvent => event.type === 'step')
    .map(({ step, loss, gradNorm, tokens }) => [step, loss, gradNorm, tokens]);
const types = (seen: TrainEvent[]) => seen.map(({ type, step }) => `${type} ${step}`);

/** Calls `at` before the batch of this number. */
class Troubled extends TinyLoader {
  constructor(
    private readonly number: number,
    private readonly at: () => Promise<void> | void,
  ) {
    super(20);
  }

  override async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
    let count = 0;
    for await (const batch of super[Symbol.asyncIterator]() as AsyncGenerator<Batch>) {
      if (++count === this.number) await this.at();
      yield batch;
    }
  }
}

const broken = () => {
  throw new KotodamaError('ERR_DATA', 'train.txt line 9 is not UTF-8', { hint: 'repair it' });
};

for (const [what, gradAccum, number] of [
  ['before a step', 2, 7],
  ['within a step', 4, 15],
] as const) {
  t.test(
    `aborted while no data comes, ${what}: what was done is saved, and continued as if nothing had been`,
    async (t) => {
      const folder = t.testdir();
      const whole = await run(t, { out: join(folder, 'whole'), gradAccum, maxSteps: 5 });
      const controller = new AbortController();
      const silent = new Troubled(number, () => {
        setTimeout(() => controller.abort(), 5);
        return new Promise<void>(() => {});
      });
      const out = join(folder, 'parts');
      const first = await run(t, { out, train: silent, gradAccum, maxSteps: 5 }, controller.signal);
      t.same(types(first.seen), ['start 0', 'step 1', 'step 2', 'step 3', 'checkpoint 3', 'end 3']);
      t.match(first.seen.at(-1), { reason: 'aborted' });
      const second = await run(t, { out, gradAccum, maxSteps: 5, resume: true });
      t.same([...steps(first.seen), ...steps(second.seen)], steps(whole.seen));
    },
  );
}

/** What a source throws that a signal has ended. */
const ABORTS = {
  'a loader': () => new KotodamaError('ERR_ABORTED', 'Reading data was aborted'),
  'another source': () => new DOMException('This operation was aborted', 'AbortError'),
};

for (const [what, error] of Object.entries(ABORTS)) {
  t.test(`a signal that ends the data within a step, of ${what}: what was done is saved, and continued`, async (t) => {
    const folder = t.testdir();
    const whole = await run(t, { out: join(folder, 'whole'), gradAccum: 4, maxSteps: 5 });
    const ended = () => Promise.reject(error());
    const out = join(folder, 'parts');
    const first = await run(t, { out, train: new Troubled(15, ended), gradAccum: 4, maxSteps: 5 });
    t.equal(first.error, undefined);
    t.same(types(first.seen), ['start 0', 'step 1', 'step 2', 'step 3', 'checkpoint 3', 'end 3']);
    t.match(first.seen.at(-1), { reason: 'aborted' });
    const second = await run(t, { out, gradAccum: 4, maxSteps: 5, resume: true });
    t.same([...steps(first.seen), ...steps(second.seen)], steps(whole.seen));
  });
}

t.test('one signal for the run and for its loaders, aborted at any moment: no step is lost', async (t) => {
  const folder = t.testdir();
  const texts = ['abcdefghijklmnopqrstuvwxyz'.repeat(40)];
  const loader = (signal: AbortSignal, at: number, controller?: AbortController) => {
    let count = 0;
    const dataset = BlockDataset.fromTexts(texts, { tokenizer: letters(), blockSize: 8 });
    const collate = (blocks: Parameters<typeof stackBlocks>[0]) => {
      if (++count === at) controller?.abort();
      return stackBlocks(blocks);
    };
    return new DataLoader(dataset, { batchSize: 2, collate, signal });
  };
  const shared = { gradAccum: 4, evalEvery: 2, evalBatches: 3, maxSteps: 6 };
  const never = new AbortController().signal;
  const whole = await run(t, {
    ...shared,
    out: join(folder, 'whole'),
    train: loader(never, 0),
    valid: loader(never, 0),
  });
  t.equal(steps(whole.seen).length, 6);
  for (const [name, at] of Object.entries({ train: [1, 2, 4, 7, 24], valid: [1, 2, 3, 5, 6, 11] })) {
    for (const number of at) {
      const controller = new AbortController();
      const { signal } = controller;
      const place = (one: string) => loader(signal, one === name ? number : 0, controller);
      const out = join(folder, `${name} ${number}`);
      const first = await run(t, { ...shared, out, train: place('train'), valid: place('valid') }, signal);
      t.equal(first.error, undefined, `${name} ${number}`);
      t.match(first.seen.at(-1), { type: 'end', reason: 'aborted' }, `${name} ${number}`);
      const parts = { train: loader(never, 0), valid: loader(never, 0), resume: true };
      const second = await run(t, { ...shared, out, ...parts });
      t.same([...steps(first.seen), ...steps(second.seen)], steps(whole.seen), `${name} ${number}`);
    }
  }
});

t.test('a signal of the data alone that aborts while an epoch is counted', async (t) => {
  const out = join(t.testdir(), 'run');
  const ended = () => Promise.reject(ABORTS['a loader']());
  const length = { maxSteps: undefined, epochs: 1, schedule: 'linear' } as const;
  const { seen, error } = await run(t, { out, train: new Troubled(5, ended), ...length });
  t.equal(error, undefined);
  t.same(types(seen), ['start 0', 'end 0']);
  t.match(seen.at(-1), { reason: 'aborted' });
  const whole = await run(t, { out: `${out}-whole`, ...length });
  t.same(steps((await run(t, { out, ...length, resume: true })).seen), steps(whole.seen));
});

t.test('a batch that is only slow is waited for, and the step ends', async (t) => {
  const controller = new AbortController();
  const slow = new Troubled(6, async () => {
    controller.abort();
    await new Promise((resolve) => setTimeout(resolve, 20));
  });
  const { seen } = await run(t, { out: join(t.testdir(), 'run'), train: slow, gradAccum: 4 }, controller.signal);
  t.same(types(seen), ['start 0', 'step 1', 'step 2', 'checkpoint 2', 'end 2']);
});

for (const epochs of [undefined, 2]) {
  t.test(`aborted before it began, ${epochs === undefined ? 'in steps' : 'with an epoch to count'}`, async (t) => {
    const out = join(t.testdir(), 'run');
    const length = { maxSteps: epochs === undefined ? 6 : undefined, epochs, schedule: 'linear' } as const;
    const silent = new Troubled(1, () => new Promise<void>(() => {}));
    const { seen, error } = await run(t, { out, train: silent, ...length }, AbortSignal.abort());
    t.equal(error, undefined);
    t.same(types(seen), ['start 0', 'end 0']);
    t.match(seen.at(-1), { reason: 'aborted' });
    t.match((await run(t, { out, ...length, resume: true })).seen[0], { step: 0, totalSteps: epochs ? 40 : 6 });
  });
}

t.test('aborted while it counts', async (t) => {
  const controller = new AbortController();
  const silent = new Troubled(5, () => {
    controller.abort();
    return new Promise<void>(() => {});
  });
  const length = { maxSteps: undefined, epochs: 1, schedule: 'linear' } as const;
  const out = join(t.testdir(), 'run');
  const { seen } = await run(t, { out, train: silent, ...length }, controller.signal);
  t.match(seen[0], { totalSteps: null });
  t.match(seen.at(-1), { type: 'end', step: 0, reason: 'aborted' });
  const whole = await run(t, { out: `${out}-whole`, ...length });
  t.same(steps((await run(t, { out, ...length, resume: true })).seen), steps(whole.seen));
});

for (const [what, gradAccum, number] of [
  ['before a step', 2, 7],
  ['within a step', 4, 15],
] as const) {
  t.test(`a bad record, ${what}: the steps before it are saved`, async (t) => {
    const folder = t.testdir();
    const out = join(folder, 'run');
    const { seen, error } = await run(t, { out, train: new Troubled(number, broken), gradAccum });
    t.same(types(seen), ['start 0', 'step 1', 'step 2', 'step 3', 'checkpoint 3']);
    t.match(error, {
      code: 'ERR_DATA',
      message: /^train\.txt line 9 is not UTF-8\n {2}hint: /,
      hint: /^repair it; step 3 is saved, and --resume \(API: resume: true\) goes on from it$/,
    });
    const whole = await run(t, { out: `${out}-whole`, gradAccum, maxSteps: 5 });
    const second = await run(t, { out, gradAccum, maxSteps: 5, resume: true });
    t.same([...steps(seen), ...steps(second.seen)], steps(whole.seen));
  });
}

t.test('a bad record before the first step is no run', async (t) => {
  const out = join(t.testdir(), 'run');
  const { error } = await run(t, { out, train: new Troubled(1, broken) });
  t.match(error, { hint: 'repair it' });
  t.notOk(existsSync(join(out, 'checkpoints')));
});

t.test('validation data that goes bad: the evaluation is due when the run goes on', async (t) => {
  const out = join(t.testdir(), 'run');
  let passes = 0;
  // Looks before the run end with the first batch.
  const valid = new Troubled(2, () => (++passes > 1 ? broken() : undefined));
  const options = { out, maxSteps: 6, evalEvery: 2 };
  const { seen, error } = await run(t, { ...options, valid });
  t.equal(types(seen).at(-1), 'checkpoint 4');
  t.match(error, { code: 'ERR_DATA', message: /^validation: train\.txt line 9/, hint: /step 4 is saved/ });
  const second = await run(t, { ...options, valid: new TinyLoader(3, { sameEachEpoch: true }), resume: true });
  t.same(types(second.seen).slice(0, 2), ['start 4', 'eval 4']);
  const whole = await run(t, { ...options, out: `${out}-whole` });
  t.same([...steps(seen), ...steps(second.seen)], steps(whole.seen), 'the last step was done and is not undone');
});

t.test('aborted while no validation data comes: the evaluation is due when the run goes on', async (t) => {
  const out = join(t.testdir(), 'run');
  const controller = new AbortController();
  let passes = 0;
  const silence = () => {
    setTimeout(() => controller.abort(), 5);
    return new Promise<void>(() => {});
  };
  // Two looks before the run.
  const valid = new Troubled(1, () => (++passes > 2 ? silence() : undefined));
  const options = { out, maxSteps: 6, evalEvery: 2 };
  const { seen } = await run(t, { ...options, valid }, controller.signal);
  t.same(
    types(seen).filter((text) => !text.startsWith('warning')),
    ['start 0', 'step 1', 'step 2', 'checkpoint 2', 'end 2'],
  );
  const second = await run(t, { ...options, valid: new TinyLoader(3, { sameEachEpoch: true }), resume: true });
  t.same(types(second.seen).slice(0, 2), ['start 2', 'eval 2']);
});

t.test('what is wrong with the validation data is told before the run begins', async (t) => {
  const folder = t.testdir();
  const texts = (list: Iterable<string> | (() => Iterable<string>), blockSize = 8) =>
    new DataLoader(BlockDataset.fromTexts(list, { tokenizer: letters(), blockSize }), { batchSize: 2 });
  function* once() {
    yield 'abcdefghijklmnopqrstuvwxyz';
  }
  const cases = {
    'bad record': [new Troubled(1, broken), /^validation: train\.txt line 9/],
    'too short': [texts(['abc']), /^validation: The text is too short for one block/],
    'too long': [texts(once, 9), /^validation: length of the blocks: expected at most 8 \(nPositions\), received 9/],
    'read once': [texts(once()), /^validation: These texts can be read only once/],
    nothing: [new TinyLoader(0), /^validation: The data gave no batch/],
  } as const;
  for (const [name, [valid, message]] of Object.entries(cases)) {
    const out = join(folder, name);
    const { seen, error } = await run(t, { out, valid });
    t.same(seen, [], name);
    t.match(error, { message });
    t.notOk(existsSync(join(out, 'run.json')));
  }
  // The only evaluation is after the last step: what can be read again is looked at before, and nothing else is.
  const late = await run(t, { out: join(folder, 'late'), valid: texts(['abc']), evalEvery: 0 });
  t.match(late, { seen: [], error: { message: cases['too short'][1] } });
  for (const [name, list] of Object.entries({ texts: ['a'.repeat(20)], once: once(), function: once })) {
    const { seen, error } = await run(t, { out: join(folder, `last ${name}`), valid: texts(list), evalEvery: 0 });
    t.equal(error, undefined, name);
    t.ok(types(seen).includes('eval 6'), name);
  }
  const generator = (new TinyLoader(2) as AsyncIterable<Batch>)[Symbol.asyncIterator]() as AsyncGenerator<Batch>;
  const { error } = await run(t, { out: join(folder, 'generator'), valid: generator }).catch((error) => ({ error }));
  t.match(error, { code: 'ERR_OPTIONS', message: /valid: expected batches that can be read for each .* a generator/ });
});
