import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Batch } from '../../dist/data/types.js';
import type { GPT2 } from '../../dist/model/gpt2.js';
import { readMetrics } from '../../dist/report/metrics.js';
import { recorded } from '../../dist/report/record.js';
import { newestCheckpoint } from '../../dist/train/checkpoint.js';
import type { EvalEvent, StepEvent, TrainEvent, WarningEvent } from '../../dist/train/events.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

type Teardown = { teardown(work: () => unknown): void };

async function ownModel(t: Teardown, dropout = 0): Promise<GPT2> {
  const model = await tinyModel({ dropout });
  t.teardown(() => model.dispose());
  return model;
}

function trainer(options: Partial<TrainerOptions> & { model: GPT2; out: string }): Trainer {
  const shared = {
    tokenizer: letters(),
    train: new TinyLoader(6),
    schedule: 'constant',
    warmupSteps: 0,
    lr: 1e-2,
  } as const;
  return new Trainer({ ...shared, ...options });
}

async function events(
  trainer: Trainer,
  onEvent: (event: TrainEvent) => unknown = () => {},
  signal?: AbortSignal,
): Promise<TrainEvent[]> {
  const seen: TrainEvent[] = [];
  for await (const event of trainer.run({ signal })) {
    seen.push(event);
    await onEvent(event);
  }
  return seen;
}

const steps = (seen: TrainEvent[]) => seen.filter((event): event is StepEvent => event.type === 'step');
const warnings = (seen: TrainEvent[]) => seen.filter((event): event is WarningEvent => event.type === 'warning');
const essence = (seen: TrainEvent[]) =>
  seen.flatMap((event) => {
    if (event.type === 'step') return [[event.step, event.loss, event.gradNorm, event.epoch, event.tokens]];
    if (event.type === 'eval') return [['eval', event.step, event.loss]];
    return event.type === 'sample' ? [['sample', event.step, event.text]] : [];
  });

const LAST = 'transformer.ln_f.weight';

/** Multiplies the last LayerNorm, by NaN for instance; gives what puts it back. */
async function spoil(model: GPT2, factor: number): Promise<() => Promise<void>> {
  const before = await model.readTensor(LAST);
  await model.writeTensor(
    LAST,
    before.map((value) => value * factor),
  );
  return () => model.writeTensor(LAST, before);
}

/** Knows the places of its blocks: block k of the epoch is in the lines 10k and 10k + 1. */
class PlacedLoader extends TinyLoader {
  override async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
    let row = 0;
    for await (const batch of super[Symbol.asyncIterator]() as AsyncGenerator<Batch>) {
      const origins = Array.from({ length: this.batchSize }, () => [0, 10 * ++row, 0, 10 * row + 1] as const);
      // The latest first: they are named in the order of the file.
      yield { ...batch, origins: origins.reverse() };
    }
  }

  async locate([file, first, , last]: readonly number[]): Promise<string> {
    return `text-${file} lines ${first} to ${last}`;
  }
}

t.test('stop: the blocks of the micro-batch and their lines are named', async (t) => {
  const model = await ownModel(t);
  const run = trainer({ model, out: join(t.testdir(), 'run'), train: new PlacedLoader(9), gradAccum: 3, maxSteps: 9 });
  const spoilAt2 = async (event: TrainEvent) => {
    if (event.type === 'step' && event.step === 2) await spoil(model, Number.NaN);
  };
  await t.rejects(events(run, spoilAt2), {
    code: 'ERR_NON_FINITE',
    message:
      /^Step 3: the loss is NaN in blocks 13 to 14 of epoch 1 \(text-0 lines 130 to 131; text-0 lines 140 to 141\), which begin with ".*"\n/,
    hint: /there is no checkpoint yet; try a smaller --lr, more --warmup-steps or --non-finite skip \(API: lr, warmupSteps, nonFin/,
  });
});

t.test('many places are not all named, and one that cannot be found is no second failure', async (t) => {
  const model = await ownModel(t);
  const out = t.testdir();
  // A finite loss whose gradient is not: all blocks of the step are named.
  const poison = async () => {
    await model.writeTensor(LAST, new Float32Array(16).fill(8e37));
    await model.writeTensor(
      'transformer.wte.weight',
      new Float32Array(32 * 16).map((_, i) => (i % 7) * 1e-37),
    );
  };
  const onStart = (event: TrainEvent) => event.type === 'start' && poison();
  const placed = trainer({ model, out: join(out, 'a'), train: new PlacedLoader(6), gradAccum: 6 });
  await t.rejects(events(placed, onStart), {
    message: /gradient norm is .* in blocks 1 to 12 of epoch 1 \(text-0 lines 10 to 11; .*lines 60 to 61; and 6 more\)/,
  });
  class Lost extends PlacedLoader {
    override async locate(): Promise<string> {
      throw new Error('the file is gone');
    }
  }
  await t.rejects(events(trainer({ model, out: join(out, 'b'), train: new Lost(6) }), onStart), {
    code: 'ERR_NON_FINITE',
    message: /blocks 1 to 2 of epoch 1 \(from a place that could not be found: the file is gone\)/,
  });
});

/** Batches without a label in some places. */
class GapLoader extends TinyLoader {
  constructor(
    batches: number,
    private readonly gaps: readonly number[],
  ) {
    super(batches);
  }

  override async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
    for await (const batch of super[Symbol.asyncIterator]() as AsyncGenerator<Batch>) {
      const { data, shape } = batch.labels;
      const { next } = this.state() as { next: number };
      yield this.gaps.includes(next - 1) ? { ...batch, labels: { data: data.map(() => -100), shape } } : batch;
    }
  }
}

t.test('a step without any label is refused like NaN, and can be skipped', async (t) => {
  const folder = t.testdir();
  const gaps = (out: string, model: GPT2, more: Partial<TrainerOptions> = {}) =>
    trainer({ model, out: join(folder, out), train: new GapLoader(12, [4, 5, 8]), gradAccum: 2, epochs: 1, ...more });
  await t.rejects(events(gaps('stop', await ownModel(t))), {
    code: 'ERR_NON_FINITE',
    message: /^Step 3: the loss is NaN, since every label is -100, in blocks 9 to 12 of epoch 1/,
    hint: /yet; look at the labels .*\(API: collate\), or leave such steps out with --non-finite skip \(API: nonFinite: 'skip'\)$/,
  });
  const seen = await events(gaps('skip', await ownModel(t), { nonFinite: 'skip' }));
  t.match(warnings(seen), [
    { step: 3, code: 'ERR_NON_FINITE', message: /since every label.*; the update was skipped$/ },
  ]);
  t.equal(warnings(seen).length, 1);
  t.same(
    steps(seen).map(({ step, tokens }) => [step, tokens]),
    [1, 2, 4, 5, 6].map((batches, index) => [index + 1, batches * 32]),
    'what was read counts, and steps are updates',
  );
});

t.test('what was skipped before an interruption stays recorded', async (t) => {
  const folder = t.testdir();
  const options = { nonFinite: 'skip', gradAccum: 1, epochs: 1, saveEvery: 0 } as const;
  const messages = async (out: string, isInterrupted: boolean) => {
    const path = join(folder, out);
    for (let resume = false, isOver = false; !isOver; resume = true) {
      const control = new AbortController();
      const model = await tinyModel({ dropout: 0 });
      const run = trainer({ model, out: path, train: new GapLoader(12, [4, 5, 8]), resume, ...options });
      for await (const event of recorded(run.run({ signal: control.signal }), path)) {
        if (isInterrupted && event.type === 'warning') control.abort();
        isOver = event.type === 'end' && event.reason === 'completed';
      }
      await model.dispose();
    }
    const found: string[] = [];
    for await (const event of readMetrics(join(path, 'metrics.jsonl')))
      if (event.type === 'warning') found.push(event.message);
    return found;
  };
  const whole = await messages('whole', false);
  t.equal(whole.length, 3);
  t.same(await messages('interrupted', true), whole);
});

t.test('skip: the weights and moments stay, training goes on with the next blocks', async (t) => {
  const folder = t.testdir();
  const model = await ownModel(t);
  let restore: (() => Promise<void>) | undefined;
  const before: Float32Array[] = [];
  const moments = async () => (await model.readOptimizerState(LAST)).expAvg;
  const seen = await events(
    trainer({ model, out: join(folder, 'run'), nonFinite: 'skip', maxSteps: 5, gradAccum: 2 }),
    async (event) => {
      if (event.type === 'step' && event.step === 2) {
        before.push(await model.readTensor('transformer.wpe.weight'), await moments());
        restore = await spoil(model, Number.NaN);
      }
      if (event.type !== 'warning') return;
      t.same(await model.readTensor('transformer.wpe.weight'), before[0]);
      t.same(await moments(), before[1]);
      await restore?.();
    },
  );
  t.match(warnings(seen), [
    { step: 3, message: /^Step 3: the loss is NaN in blocks 9 to 10 of epoch 1, which.*skipped$/ },
  ]);
  t.equal(warnings(seen).length, 1);
  t.same(
    steps(seen).map(({ step, tokens }) => [step, tokens]),
    [1, 2, 4, 5, 6].map((count, index) => [index + 1, count * 32]),
  );

  // The same data without the blocks that were passed over.
  class Without extends TinyLoader {
    override async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
      let index = 0;
      for await (const batch of super[Symbol.asyncIterator]() as AsyncGenerator<Batch>) {
        if (this.whole || (index !== 4 && index !== 5)) yield batch;
        index++;
      }
      this.whole = true;
    }
    private whole = false;
  }
  const other = trainer({
    model: await ownModel(t),
    out: join(folder, 'other'),
    maxSteps: 5,
    gradAccum: 2,
    train: new Without(6),
  });
  t.same(
    steps(await events(other)).map(({ loss, gradNorm }) => [loss, gradNorm]),
    steps(seen).map(({ loss, gradNorm }) => [loss, gradNorm]),
  );
});

t.test('skip has an end', async (t) => {
  const model = await ownModel(t);
  const out = join(t.testdir(), 'run');
  const seen: TrainEvent[] = [];
  const run = trainer({ model, out, nonFinite: 'skip', maxSkips: 3, saveEvery: 2, maxSteps: 50, gradClip: 0 });
  await t.rejects(
    events(run, async (event) => {
      seen.push(event);
      if (event.type === 'step' && event.step === 3) await spoil(model, Number.NaN);
    }),
    {
      code: 'ERR_NON_FINITE',
      message: /^Step 4: the loss is NaN in blocks 11 to 12 of epoch 1.*; 3 updates in a row were skipped\n/,
      hint: /step-00000002, is untouched; try .*steps or --grad-clip 1 \(API: lr, warmupSteps, gradClip: 1\)$/,
    },
  );
  t.equal(warnings(seen).length, 2);
  t.match((await newestCheckpoint(out)).checkpoint, { state: { step: 2 } });
});

t.test('NaN in the middle of a step: its blocks alone are named, and the step is read to its end', async (t) => {
  const model = await ownModel(t);
  const forwardBackward = model.forwardBackward.bind(model);
  const read: Batch[] = [];
  model.forwardBackward = async (batch, ...more) => {
    read.push(batch as Batch);
    const result = await forwardBackward(batch, ...more);
    return read.length === 2 ? { ...result, lossSum: Number.NaN } : result;
  };
  const options = { train: new PlacedLoader(8), gradAccum: 4, nonFinite: 'skip', maxSteps: 1 } as const;
  const seen = await events(trainer({ model, out: join(t.testdir(), 'run'), ...options }));
  t.match(warnings(seen), [{ step: 1, message: /the loss is NaN in blocks 3 to 4 of epoch 1 / }]);
  t.same(
    read[2].origins?.map(([, line]) => line),
    [100, 90],
    'the next step begins with block 9',
  );
  t.match(steps(seen), [{ tokens: 2 * 4 * 16 }]);
});

t.test('skips in a row are counted from the last update on, in a resumed run too', async (t) => {
  const model = await ownModel(t);
  const options = { model, out: join(t.testdir(), 'run'), nonFinite: 'skip', maxSkips: 3 } as const;
  const controller = new AbortController();
  let restore = async () => {};
  let skips = 0;
  const seen = await events(
    trainer({ ...options, maxSteps: 9 }),
    async ({ type, step }) => {
      if (type === 'step' && step < 4) restore = await spoil(model, Number.NaN);
      if (type !== 'warning' || ++skips % 2 !== 0) return;
      await restore();
      if (skips === 6) controller.abort();
    },
    controller.signal,
  );
  t.equal(warnings(seen).length, 6);
  t.match(seen.at(-1), { type: 'end', step: 3, reason: 'aborted' });
  const again = trainer({ ...options, maxSteps: 9, resume: true });
  const types: string[] = [];
  const spoilAtStart = async ({ type }: TrainEvent) => {
    types.push(type);
    if (type === 'start') await spoil(model, Number.NaN);
  };
  await t.rejects(events(again, spoilAtStart), { message: /^Step 4: .*; 3 updates in a row were skipped\n/ });
  t.notOk(types.includes('warning'), 'the first one is the third');
});

for (const spikes of ['log', 'skip'] as const) {
  t.test(`spikes: ${spikes}`, async (t) => {
    const model = await ownModel(t);
    const options = { spikes, spikeWindow: 16, spikeSigma: 5, maxSteps: 30, lr: 1e-4 } as const;
    let restore: (() => Promise<void>) | undefined;
    let weights: Float32Array | undefined;
    const seen = await events(trainer({ model, out: join(t.testdir(), 'run'), ...options }), async (event) => {
      if (event.type === 'step' && event.step === 20) {
        restore = await spoil(model, 30);
        weights = await model.readTensor('transformer.wpe.weight');
      }
      if (event.type !== 'warning' || restore === undefined) return;
      const after = await model.readTensor('transformer.wpe.weight');
      if (spikes === 'skip') t.same(after, weights);
      else t.notSame(after, weights);
      await restore();
      restore = undefined;
    });
    const [first] = warnings(seen);
    t.match(first, { step: 21, code: 'ERR_SPIKE' });
    if (spikes === 'skip') {
      t.match(
        first.message,
        /^Step 21: the loss is .* standard deviations above its recent mean .* in blocks .* skipped$/,
      );
      t.equal(warnings(seen).length, 1);
    } else
      t.match(first.message, /^Step 21: the loss is [\d.]+, [\d.]+ standard deviations above its recent mean [\d.]+$/);
    t.equal(steps(seen).length, 30);
  });
}

t.test('spikes: skip looks at the gradient before the update too, and off at nothing', async (t) => {
  const folder = t.testdir();
  const runs = { skip: 1, off: 0 } as const;
  for (const spikes of ['skip', 'off'] as const) {
    const model = await ownModel(t);
    const options = { spikes, spikeWindow: 16, spikeSigma: 20, maxSteps: 30, lr: 1e-5 } as const;
    let restore: (() => Promise<void>)[] = [];
    const seen = await events(trainer({ model, out: join(folder, spikes), ...options }), async (event) => {
      // A smaller embedding with a larger LayerNorm before the head: the same logits, other gradients.
      if (event.type === 'step' && event.step === 20) {
        const wte = await model.readTensor('transformer.wte.weight');
        restore = [await spoil(model, 1e4), () => model.writeTensor('transformer.wte.weight', wte)];
        await model.writeTensor(
          'transformer.wte.weight',
          wte.map((value) => value / 1e4),
        );
      }
      if (event.type === 'warning') for (const put of restore) await put();
    });
    t.equal(warnings(seen).length, runs[spikes], spikes);
    if (spikes === 'skip') t.match(warnings(seen)[0].message, /^Step 21: the gradient norm is .* skipped$/);
  }
});

t.test('patience: no better evaluation for so long ends the run, and the best one is kept', async (t) => {
  const out = join(t.testdir(), 'run');
  const options = {
    evalEvery: 2,
    patience: 3,
    saveEvery: 100,
    keep: 1,
    maxSteps: 1000,
    valid: new TinyLoader(2, { sameEachEpoch: true }),
  };
  // First it learns; then the learning rate is far too high.
  const model = await ownModel(t);
  let evaluations = 0;
  const seen = await events(trainer({ model, out, ...options, lr: 3e-3 }), async (event) => {
    if (event.type !== 'eval') return;
    evaluations++;
    if (evaluations === 4) await spoil(model, -3);
  });
  const losses = seen.filter((event): event is EvalEvent => event.type === 'eval');
  const best = losses.reduce((a, b) => (b.loss < a.loss ? b : a));
  t.equal(losses.length, losses.indexOf(best) + 4);
  const end = seen.at(-1);
  t.match(end, {
    type: 'end',
    reason: 'patience',
    step: losses.at(-1)?.step,
    best: { step: best.step, loss: best.loss },
  });
  t.same(readdirSync(join(out, 'checkpoints')), ['best', name(best.step), name(losses.at(-1)?.step ?? 0)]);

  const again = await events(trainer({ model, out, ...options, lr: 3e-3, resume: true }));
  t.same(
    again.map(({ type }) => type),
    ['start', 'warning', 'end'],
    'it stays ended',
  );
  t.match(again[1], {
    message: /^the run had ended at step \d+ already: .*; a larger --patience \(API: patience\), goes on/,
  });
  t.match(again.at(-1), { reason: 'patience' });
});

const name = (step: number) => `step-${String(step).padStart(8, '0')}`;

t.test('maxTime: the step is finished, the run is saved and can be continued', async (t) => {
  const out = join(t.testdir(), 'run');
  const valid = new TinyLoader(2, { sameEachEpoch: true });
  const options = { maxSteps: 1_000_000, valid, evalEvery: 1_000_000, saveEvery: 0 };
  // The third step takes an hour: how many a machine takes in a second, if any, nobody knows.
  const now = performance.now.bind(performance);
  let late = 0;
  t.intercept(performance, 'now', { value: () => now() + late });
  const seen = await events(trainer({ model: await ownModel(t), out, ...options, maxTime: '1h' }), ({ step }) => {
    if (step === 3) late = 3_600_000;
  });
  const end = seen.at(-1);
  t.match(end, { type: 'end', step: 3, reason: 'maxTime', evalLoss: null });
  t.match(seen.at(-2), { type: 'checkpoint', step: end?.step });
  const again = await events(
    trainer({ model: await ownModel(t), out, ...options, resume: true, maxSteps: (end?.step ?? 0) + 1 }),
  );
  t.same(
    again.map(({ type, step }) => `${type} ${step - (end?.step ?? 0)}`),
    ['start 0', 'step 1', 'eval 1', 'checkpoint 1', 'end 1'],
  );
});

t.test('what an aborted step still owes is done when the run is continued', async (t) => {
  const folder = t.testdir();
  const options = { evalEvery: 2, sampleEvery: 2, sampleTokens: 4, maxSteps: 6, saveEvery: 4 };
  const valid = () => new TinyLoader(3, { sameEachEpoch: true });
  const run = async (out: string, more: Partial<TrainerOptions>, signal?: AbortSignal) =>
    events(
      trainer({ model: await ownModel(t, 0.1), out: join(folder, out), ...options, valid: valid(), ...more }),
      undefined,
      signal,
    );
  const whole = await run('whole', {});

  const controller = new AbortController();
  class Interrupting extends TinyLoader {
    private passes = 0;
    override async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
      // The first two are the looks before the run.
      if (++this.passes === 4) controller.abort();
      yield* super[Symbol.asyncIterator]() as AsyncGenerator<Batch>;
    }
  }
  const interrupted = new Interrupting(3, { sameEachEpoch: true });
  const first = await run('parts', { valid: interrupted }, controller.signal);
  t.match(first.at(-1), { reason: 'aborted', step: 4 });
  const second = await run('parts', { resume: true });
  t.same([...essence(first), ...essence(second)], essence(whole));
});
