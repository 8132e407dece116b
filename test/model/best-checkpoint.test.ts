// Wherever the best evaluation lies between two saves, and whatever asked for it: its weights are kept.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { GPT2 } from '../../dist/model/gpt2.js';
import { TrainerControl } from '../../dist/train/control.js';
import type { EvalEvent, TrainEvent } from '../../dist/train/events.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

const NAME = 'transformer.ln_f.weight';

interface Watched extends Partial<TrainerOptions> {
  out: string;
  /** From this step on the model only becomes worse. */
  worseFrom?: number;
  at?: (event: TrainEvent, control: TrainerControl, abort: () => void) => void;
}

/** Blocks to measure on, under a name that tells them from others. */
const named = (name: string, batches: number, asked = () => {}) =>
  Object.assign(new TinyLoader(batches, { sameEachEpoch: true }), {
    identity: async () => {
      asked();
      return { name };
    },
  });

type Teardown = { teardown(work: () => unknown): void };

/** Runs to the end; gives the events, and what the model's last LayerNorm was at each evaluation. */
async function run(t: Teardown, { worseFrom = Number.POSITIVE_INFINITY, at, ...options }: Watched) {
  const model = await tinyModel();
  t.teardown(() => model.dispose());
  const control = new TrainerControl();
  const abort = new AbortController();
  const shared = { schedule: 'constant', warmupSteps: 0, lr: 1e-3, keep: 1, saveEvery: 0, evalEvery: 0 } as const;
  const trainer = new Trainer({
    ...{ model, tokenizer: letters(), train: new TinyLoader(20), valid: new TinyLoader(2, { sameEachEpoch: true }) },
    ...{ ...shared, ...options },
  });
  const seen: TrainEvent[] = [];
  const weights = new Map<number, Float32Array>();
  for await (const event of trainer.run({ control, signal: abort.signal })) {
    seen.push(event);
    if (event.type === 'eval') weights.set(event.step, await model.readTensor(NAME));
    if (event.type === 'step' && event.step >= worseFrom) {
      const values = await model.readTensor(NAME);
      await model.writeTensor(
        NAME,
        values.map((value) => -Math.abs(value) - 1),
      );
    }
    at?.(event, control, () => abort.abort());
  }
  return { seen, weights };
}

const evaluations = (seen: TrainEvent[]) => seen.filter((event): event is EvalEvent => event.type === 'eval');
const stepName = (step: number) => `step-${String(step).padStart(8, '0')}`;

/** The link leads to the checkpoint of `step`, which holds these weights. */
async function checkBest(t: Test, out: string, step: number, weights: Float32Array | undefined): Promise<void> {
  t.equal(readlinkSync(join(out, 'checkpoints/best')), stepName(step));
  const best = await GPT2.fromPretrained(join(out, 'checkpoints/best'), { device: 'cpu', threads: 1 });
  t.same(await best.readTensor(NAME), weights);
  await best.dispose();
}

const checkpoints = (out: string) => readdirSync(join(out, 'checkpoints')).filter((name) => name !== 'best');

t.test('between two saves, without patience', async (t) => {
  const out = join(t.testdir(), 'run');
  const { seen, weights } = await run(t, { out, maxSteps: 12, evalEvery: 2, saveEvery: 5, worseFrom: 7 });
  const losses = evaluations(seen);
  t.same(
    losses.map(({ step }) => step),
    [2, 4, 6, 8, 10, 12],
  );
  const best = losses.reduce((a, b) => (b.loss < a.loss ? b : a));
  t.equal(best.step, 6);
  await checkBest(t, out, 6, weights.get(6));
  t.same(checkpoints(out), [stepName(6), stepName(12)]);
  t.match(seen.at(-1), { best: { step: 6, loss: best.loss } });
});

t.test('with saves at the end alone', async (t) => {
  const out = join(t.testdir(), 'run');
  const { weights } = await run(t, { out, maxSteps: 6, evalEvery: 2, worseFrom: 3 });
  await checkBest(t, out, 2, weights.get(2));
  t.same(checkpoints(out), [stepName(2), stepName(6)]);
});

t.test('an evaluation that a person asked for', async (t) => {
  const out = join(t.testdir(), 'run');
  const { weights } = await run(t, {
    ...{ out, maxSteps: 6, worseFrom: 4 },
    at: (event, control) => {
      if (event.type === 'step' && event.step === 3) control.send({ action: 'evaluate' });
    },
  });
  await checkBest(t, out, 3, weights.get(3));
  t.same(checkpoints(out), [stepName(3), stepName(6)]);
});

t.test('the last evaluation, of a step that was saved before', async (t) => {
  const out = join(t.testdir(), 'run');
  // The data ends after step 6, which nobody knows beforehand.
  const options = { out, epochs: 1, train: new TinyLoader(6), evalEvery: 4, saveEvery: 3 };
  const { seen, weights } = await run(t, options);
  t.same(
    seen.filter(({ type }) => type !== 'step' && type !== 'checkpoint').map(({ type, step }) => `${type} ${step}`),
    ['start 0', 'eval 4', 'eval 6', 'end 6'],
  );
  await checkBest(t, out, 6, weights.get(6));
  t.same(checkpoints(out), [stepName(6)], 'the one that was the best before is not needed any more');
});

t.test('the last evaluation, of a step that was saved before, is remembered by the run that goes on', async (t) => {
  const out = join(t.testdir(), 'run');
  const options = { out, evalEvery: 4, saveEvery: 6 };
  const { seen, weights } = await run(t, { ...options, maxSteps: 6 });
  const [best] = evaluations(seen).slice(-1);
  t.match(seen.at(-1), { step: 6, best: { step: 6 } });
  const saved = JSON.parse(readFileSync(join(out, 'checkpoints', stepName(6), 'trainer_state.json'), 'utf8'));
  t.match(saved, { evaluation: { step: 6 }, best: { step: 6, loss: best?.loss, since: 0 } });
  const more = await run(t, { ...options, maxSteps: 12, resume: true, worseFrom: 7 });
  await checkBest(t, out, 6, weights.get(6));
  t.same(checkpoints(out), [stepName(6), stepName(12)]);
  t.match(more.seen.at(-1), { step: 12, best: { step: 6, loss: best?.loss } });
});

t.test('an evaluation that an interrupted run still owed', async (t) => {
  const out = join(t.testdir(), 'run');
  const options = { out, maxSteps: 12, evalEvery: 4, saveEvery: 3 };
  const first = await run(t, {
    ...options,
    at: (event, _, abort) => {
      if (event.type === 'step' && event.step === 4) abort();
    },
  });
  t.same(evaluations(first.seen), []);
  t.match(first.seen.at(-1), { step: 4, reason: 'aborted' });
  const { seen, weights } = await run(t, { ...options, resume: true, worseFrom: 5 });
  t.same(
    evaluations(seen).map(({ step }) => step),
    [4, 8, 12],
  );
  await checkBest(t, out, 4, weights.get(4));
  t.same(checkpoints(out), [stepName(4), stepName(12)]);
});

t.test('a start with other validation data that measures nothing forgets nothing', async (t) => {
  const out = join(t.testdir(), 'run');
  const options = { out, evalEvery: 2, saveEvery: 2, patience: 2, valid: named('a', 2) };
  const { seen, weights } = await run(t, { ...options, maxSteps: 4, worseFrom: 3 });
  const [best] = evaluations(seen);
  t.match(seen.at(-1), { step: 4, best: { step: 2, loss: best?.loss } });
  const stateOf = (step: number) =>
    readFileSync(join(out, 'checkpoints', stepName(step), 'trainer_state.json'), 'utf8');
  const before = stateOf(4);
  const mistaken = await run(t, {
    ...{ ...options, valid: named('b', 2), maxSteps: 8, resume: true },
    at: ({ type }, _, abort) => type === 'start' && abort(),
  });
  t.match(mistaken.seen[1], {
    type: 'warning',
    message: `the earlier best model stays in ${out}/checkpoints/${stepName(2)}`,
  });
  t.match(mistaken.seen.at(-1), { step: 4, reason: 'aborted', best: { step: 2 } });
  t.equal(stateOf(4), before);
  // A step further, but not as far as an evaluation.
  await run(t, {
    ...{ ...options, valid: named('b', 2), maxSteps: 8, resume: true },
    at: ({ type }, _, abort) => type === 'step' && abort(),
  });
  t.match(JSON.parse(stateOf(5)), {
    evaluation: { step: 4 },
    best: { step: 2, since: 1 },
    measured: { data: { name: 'a' } },
  });
  const right = await run(t, { ...options, maxSteps: 8, resume: true, worseFrom: 5 });
  t.same(
    evaluations(right.seen).map(({ step, anew }) => [step, anew]),
    [[6, undefined]],
  );
  t.match(right.seen.at(-1), { step: 6, reason: 'patience', best: { step: 2, loss: best?.loss } });
  await checkBest(t, out, 2, weights.get(2));
});

t.test('the best model of other validation data stays, and evaluations begin anew', async (t) => {
  const out = join(t.testdir(), 'run');
  const options = { out, evalEvery: 2, saveEvery: 2, worseFrom: 3 };
  await run(t, { ...options, maxSteps: 4, valid: named('a', 2) });
  let asked = 0;
  const valid = named('b', 3, () => asked++);
  const { seen, weights } = await run(t, { ...options, valid, maxSteps: 10, resume: true, worseFrom: 7 });
  t.equal(asked, 1, 'large files are not read twice for their mark');
  t.match(JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')), { valid: { name: 'b' } });
  t.same(
    evaluations(seen).map(({ step, anew }) => [step, anew]),
    [
      [6, true],
      [8, undefined],
      [10, undefined],
    ],
  );
  t.match(seen.at(-1), { step: 10, best: { step: 6 } });
  await checkBest(t, out, 6, weights.get(6));
  t.same(checkpoints(out), [stepName(2), stepName(6), stepName(10)]);
  await run(t, { ...options, valid, maxSteps: 12, resume: true });
  t.same(checkpoints(out), [stepName(2), stepName(6), stepName(12)], 'also a start later');
});
