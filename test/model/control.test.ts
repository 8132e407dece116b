import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { recorded } from '../../dist/report/record.js';
import { TrainerControl } from '../../dist/train/control.js';
import type { GradientsEvent, StepEvent, TrainEvent, TrainerProgress } from '../../dist/train/events.js';
import { histogramOf } from '../../dist/train/histogram.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

interface Watched extends Partial<TrainerOptions> {
  out: string;
  /** Sees each event, and may send commands. */
  at?: (event: TrainEvent, control: TrainerControl) => void;
}

async function run({ at, ...options }: Watched): Promise<TrainEvent[]> {
  const model = await tinyModel();
  const control = new TrainerControl();
  const trainer = new Trainer({
    ...{ model, tokenizer: letters(), train: new TinyLoader(6), maxSteps: 6, lr: 1e-2, warmupSteps: 0, saveEvery: 0 },
    ...{ schedule: 'constant', sampleTokens: 4, ...options },
  });
  const seen: TrainEvent[] = [];
  try {
    for await (const event of trainer.run({ control })) {
      seen.push(event);
      at?.(event, control);
    }
  } finally {
    await model.dispose();
  }
  return seen;
}

const types = (seen: TrainEvent[]) => seen.map(({ type, step }) => `${type} ${step}`);
const steps = (seen: TrainEvent[]) => seen.filter((event): event is StepEvent => event.type === 'step');
const after = (step: number, send: (control: TrainerControl) => void) => (event: TrainEvent, control: TrainerControl) =>
  event.type === 'step' && event.step === step ? send(control) : undefined;

t.test('commands are carried out between two steps, in their order, and recorded', async (t) => {
  const seen = await run({
    out: join(t.testdir(), 'run'),
    valid: new TinyLoader(2),
    evalEvery: 0,
    at: after(2, (control) => {
      control.send({ action: 'evaluate' });
      control.send({ action: 'sample', prompt: 'ab' });
      control.send({ action: 'sample', prompt: 'ab' });
      control.send({ action: 'save' });
    }),
  });
  // The checkpoint is written beside the training, and told of when it is safe.
  const told = types(seen).filter((text) => text !== 'checkpoint 2');
  t.same(told.slice(2, 11), [
    ...['step 2', 'control 2', 'eval 2', 'control 2', 'sample 2', 'control 2', 'sample 2', 'control 2', 'step 3'],
  ]);
  t.equal(told.length, seen.length - 1);
  t.match(seen[5], { type: 'control', step: 2, action: 'sample', prompt: 'ab' });
  t.not((seen[6] as { text: string }).text, (seen[8] as { text: string }).text, 'another sample, not the same again');
  t.equal(steps(seen).length, 6);
});

t.test('what was measured after a checkpoint stays in metrics.jsonl when the run goes on', async (t) => {
  const out = join(t.testdir(), 'run');
  const shared = { out, tokenizer: letters(), evalEvery: 0, schedule: 'constant', warmupSteps: 0 } as const;
  const start = async (resume: boolean, at: (event: TrainEvent, control: TrainerControl) => void) => {
    const model = await tinyModel();
    const control = new TrainerControl();
    const data = { train: new TinyLoader(6), valid: new TinyLoader(2, { sameEachEpoch: true }) };
    const trainer = new Trainer({ ...shared, ...data, model, maxSteps: 4, saveEvery: 0, resume });
    for await (const event of recorded(trainer.run({ control }), out)) at(event, control);
    await model.dispose();
  };
  await start(false, ({ type, step }, control) => {
    if (type === 'step' && step === 2) for (const action of ['pause', 'save'] as const) control.send({ action });
    if (type !== 'checkpoint') return;
    for (const action of ['evaluate', 'stop'] as const) control.send({ action });
  });
  await start(true, () => {});
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  t.same(types(lines.map((line) => JSON.parse(line))), [
    ...['start 0', 'step 1', 'step 2', 'control 2', 'control 2', 'checkpoint 2', 'control 2', 'eval 2', 'control 2'],
    ...['start 2', 'step 3', 'step 4', 'eval 4', 'checkpoint 4', 'end 4'],
  ]);
});

t.test('looking on changes nothing that is learned', async (t) => {
  const folder = t.testdir();
  const shared = { valid: new TinyLoader(2), evalEvery: 3, sampleEvery: 3 };
  const calm = await run({ out: join(folder, 'a'), ...shared });
  const busy = await run({
    ...{ out: join(folder, 'b'), ...shared },
    at: (event, control) => {
      if (event.type !== 'step') return;
      control.send({ action: 'evaluate' });
      control.send({ action: 'sample', prompt: 'a' });
      control.send({ action: 'save' });
    },
  });
  t.same(
    steps(busy).map(({ loss }) => loss),
    steps(calm).map(({ loss }) => loss),
  );
  const own = (seen: TrainEvent[]) =>
    seen.flatMap((event) => (event.type === 'sample' && event.prompt === '' ? event.text : []));
  t.same(own(busy), own(calm), 'nor what the regular samples say');
});

t.test('a paused run takes no step, still does what it is told, and goes on', async (t) => {
  let stepsAtPause = -1;
  const seen = await run({
    out: join(t.testdir(), 'run'),
    at: (event, control) => {
      if (event.type === 'step' && event.step === 2) control.send({ action: 'pause' });
      if (event.type === 'control' && event.action === 'pause') {
        setTimeout(() => control.send({ action: 'save' }), 50);
        setTimeout(() => control.send({ action: 'resume' }), 150);
      }
      if (event.type === 'control' && event.action === 'resume') stepsAtPause = event.step;
    },
  });
  t.equal(stepsAtPause, 2);
  t.same(types(seen).slice(2, 8), ['step 2', 'control 2', 'control 2', 'checkpoint 2', 'control 2', 'step 3']);
  t.equal(steps(seen).length, 6);
});

t.test('an aborted signal wakes a paused run', async (t) => {
  const model = await tinyModel();
  t.teardown(() => model.dispose());
  const out = join(t.testdir(), 'run');
  const trainer = new Trainer({ model, tokenizer: letters(), train: new TinyLoader(6), maxSteps: 6, out });
  const control = new TrainerControl();
  const controller = new AbortController();
  control.send({ action: 'pause' });
  const seen: TrainEvent[] = [];
  for await (const event of trainer.run({ control, signal: controller.signal })) {
    seen.push(event);
    if (event.type === 'control') setTimeout(() => controller.abort(), 50);
  }
  t.same(types(seen), ['start 0', 'control 0', 'end 0']);
  t.match(seen.at(-1), { reason: 'aborted' });
});

t.test('a paused run ends when its time is over', async (t) => {
  const out = join(t.testdir(), 'run');
  const control = new TrainerControl();
  control.send({ action: 'pause' });
  const model = await tinyModel();
  t.teardown(() => model.dispose());
  const options = { model, tokenizer: letters(), train: new TinyLoader(6), maxSteps: 6, maxTime: 0.5, out };
  const seen: TrainEvent[] = [];
  for await (const event of new Trainer(options).run({ control })) seen.push(event);
  t.same(types(seen), ['start 0', 'control 0', 'end 0']);
  t.match(seen.at(-1), { reason: 'maxTime' });
});

t.test('stop: the step ends, the run is saved and can be resumed', async (t) => {
  const out = join(t.testdir(), 'run');
  const seen = await run({ out, at: after(3, (control) => control.send({ action: 'stop' })) });
  t.same(types(seen).slice(-3), ['control 3', 'checkpoint 3', 'end 3']);
  t.match(seen.at(-1), { reason: 'aborted' });
  t.ok(existsSync(join(out, 'checkpoints', 'step-00000003', 'trainer_state.json')));
  t.equal(steps(await run({ out, resume: true }))[0].step, 4);
});

t.test('a new peak learning rate scales the schedule, and lasts beyond a resumption', async (t) => {
  const folder = t.testdir();
  const linear = { schedule: 'linear', minLr: 1e-3, maxSteps: 6 } as const;
  const rates = (seen: TrainEvent[]) => steps(seen).map(({ learningRate }) => learningRate);
  const plain = rates(await run({ out: join(folder, 'plain'), ...linear }));
  const change = after(2, (control) => control.send({ action: 'learningRate', learningRate: 3e-2 }));
  const changed = rates(await run({ out: join(folder, 'changed'), ...linear, at: change }));
  for (const [index, rate] of changed.entries()) {
    t.ok(Math.abs(rate - plain[index] * (index < 2 ? 1 : 3)) < 1e-12, `step ${index + 1}: ${rate}`);
  }
  const out = join(folder, 'stopped');
  const stop = (event: TrainEvent, control: TrainerControl) => {
    change(event, control);
    after(4, (control) => control.send({ action: 'stop' }))(event, control);
  };
  await run({ out, ...linear, at: stop });
  t.same(rates(await run({ out, ...linear, resume: true })), changed.slice(4));
  await run({ out: join(folder, 'again'), ...linear, at: stop });
  const other = { ...linear, lr: 2e-2, minLr: 2e-3 };
  const after4 = rates(await run({ out: join(folder, 'again'), ...other, resume: true }));
  for (const [index, rate] of after4.entries())
    t.ok(Math.abs(rate - 2 * plain[4 + index]) < 1e-12, 'another --lr wins');
});

t.test('a learning rate that was set after the step was saved lasts beyond a resumption', async (t) => {
  const out = join(t.testdir(), 'run');
  const seen = await run({
    out,
    at: after(3, (control) => {
      control.send({ action: 'pause' });
      control.send({ action: 'save' });
      control.send({ action: 'learningRate', learningRate: 1e-3 });
      control.send({ action: 'stop' });
    }),
  });
  t.equal(types(seen).filter((text) => text === 'checkpoint 3').length, 1);
  t.match(seen.at(-1), { step: 3, reason: 'aborted' });
  const sums = () => readFileSync(join(out, 'checkpoints/step-00000003/SHA256SUMS'), 'utf8');
  const before = sums();
  await run({ out, resume: true, maxSteps: 3 });
  t.equal(sums(), before, 'a start at which nothing happens changes nothing');
  t.match(steps(await run({ out, resume: true }))[0], { step: 4, learningRate: 1e-3 });
});

t.test('what cannot be done is a warning, and the run goes on', async (t) => {
  const seen = await run({
    out: join(t.testdir(), 'run'),
    tokenizer: { ...letters(), bosTokenId: undefined },
    at: after(1, (control) => {
      control.send({ action: 'evaluate' });
      control.send({ action: 'sample', prompt: '' });
    }),
  });
  const warnings = seen.filter(({ type }) => type === 'warning');
  t.match(warnings, [
    { code: 'ERR_OPTIONS', message: /no validation data/ },
    { code: 'ERR_OPTIONS', message: /prompt is empty/ },
  ]);
  t.equal(steps(seen).length, 6);
});

t.test('what is no command is refused', async (t) => {
  const control = new TrainerControl();
  const wrong: [unknown, RegExp][] = [
    [null, /expected an object/],
    [{}, /expected 'pause', .* or 'learningRate', received nothing/],
    [{ action: 'explode' }, /received 'explode'/],
    [{ action: 'learningRate', learningRate: 0 }, /above 0/],
    [{ action: 'learningRate', learningRate: 'NaN' }, /a number/],
    [{ action: 'sample' }, /prompt/],
    [{ action: 'sample', prompt: 'x'.repeat(20_001) }, /at most 20000 characters/],
    [{ action: 'save', path: '/etc/passwd' }, /path/],
  ];
  for (const [command, message] of wrong) {
    t.throws(() => control.send(command as never), { code: 'ERR_OPTIONS', message }, JSON.stringify(command));
  }
  t.same((control as unknown as { take(): unknown[] }).take(), []);
});

t.test('work beside the steps says how far it is', async (t) => {
  const model = await tinyModel();
  t.teardown(() => model.dispose());
  const out = join(t.testdir(), 'run');
  const seen: TrainerProgress[] = [];
  const shared = {
    model,
    tokenizer: letters(),
    train: new TinyLoader(6),
    valid: new TinyLoader(3),
    out,
    evalBatches: 2,
  };
  const watch = async (options: Partial<TrainerOptions>) => {
    const trainer = new Trainer({ ...shared, sampleEvery: 3, evalEvery: 3, ...options });
    for await (const _ of trainer.run({ onProgress: (progress) => seen.push(progress) }));
  };
  await watch({ epochs: 1 });
  const phases = (list: TrainerProgress[]) => [...new Set(list.map(({ phase }) => phase))];
  t.same(phases(seen), ['count', 'evaluate', 'sample', 'save']);
  t.same(seen.filter(({ phase }) => phase === 'count').at(-1), { phase: 'count', done: 6, total: null });
  t.same(seen.filter(({ phase }) => phase === 'evaluate').slice(0, 3), [
    { phase: 'evaluate', done: 0, total: 2 },
    { phase: 'evaluate', done: 1, total: 2 },
    { phase: 'evaluate', done: 2, total: 2 },
  ]);
  seen.length = 0;
  await watch({ epochs: 2, resume: true });
  t.same(phases(seen), ['restore', 'evaluate', 'sample', 'save']);
});

t.test('histograms of the gradients, every so many steps, change nothing', async (t) => {
  const folder = t.testdir();
  const seen = await run({ out: join(folder, 'a'), histogramEvery: 2, gradAccum: 2, epochs: 9, maxSteps: 4 });
  const plain = await run({ out: join(folder, 'b'), gradAccum: 2, epochs: 9, maxSteps: 4 });
  t.same(
    steps(seen).map(({ loss }) => loss),
    steps(plain).map(({ loss }) => loss),
  );
  const histograms = seen.filter((event): event is GradientsEvent => event.type === 'gradients');
  t.same(
    histograms.map(({ step }) => step),
    [2, 4],
  );
  for (const { step, tensors } of histograms) {
    const squares = tensors.reduce((sum, { sumOfSquares }) => sum + sumOfSquares, 0);
    const norm = steps(seen)[step - 1].gradNorm;
    t.ok(Math.abs(Math.sqrt(squares) - norm) < 1e-4 * norm, `${Math.sqrt(squares)} is the norm ${norm}`);
    t.equal(tensors.length, 2 + 2 * 12 + 2);
    const wte = tensors.find(({ name }) => name === 'transformer.wte.weight');
    t.equal(
      wte?.counts.reduce((sum, count) => sum + count, 0),
      32 * 16,
    );
  }
});

t.test('a histogram counts every finite value once', async (t) => {
  t.match(histogramOf(Float32Array.of(0, 1, 2, 3)), { min: 0, max: 3, sum: 6, sumOfSquares: 14 });
  const { counts } = histogramOf(Float32Array.of(0, 0.04, 0.5, 1));
  t.same([counts[0], counts[1], counts[15], counts[29]], [1, 1, 1, 1]);
  t.match(histogramOf(Float32Array.of(Number.NaN, 2, Number.POSITIVE_INFINITY)), { min: 2, max: 2, sum: 2 });
  t.match(histogramOf(Float32Array.of(Number.NaN)), { min: 0, max: 0, sum: 0 });
  t.equal(histogramOf(Float32Array.of(5, 5)).counts[0], 2);
});
