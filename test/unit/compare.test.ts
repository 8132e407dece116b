import t from 'tap';
import { compareRuns, summarize } from '../../dist/report/compare.js';
import type { TrainEvent } from '../../dist/train/events.js';
import { endEvent, evalEvent, from, stepEvent } from './helpers/events.js';

const step = (number: number, loss: number) => stepEvent(number, { loss });
const evaluation = evalEvent;
const end = (number: number) => endEvent(number);

async function run(record: object, events: TrainEvent[]) {
  return summarize(JSON.parse(JSON.stringify(record)), from(events));
}

t.test('settings by their paths; what was given and what was resolved count once', async (t) => {
  const record = (lr: number, more: object = {}) => ({
    ...{ seed: 1, starts: [{ time: `${lr}` }], training: { lr, beta1: 0.9 }, options: { lr, seed: 1, out: `${lr}` } },
    ...{ data: { files: [{ name: 'x.txt' }] } },
    ...more,
  });
  const { different, same } = compareRuns(
    await run(record(1), []),
    await run(record(2, { valid: { sha256: 'abc' } }), []),
  );
  t.same(different, [
    { name: 'training.lr', a: 1, b: 2 },
    { name: 'valid.sha256', a: null, b: 'abc' },
  ]);
  t.equal(same, 3, 'seed, beta1 and the name of the file');
});

t.test('losses: the first step that differs, means of stretches, common evaluations', async (t) => {
  const events = (offset: number, steps: number) => [
    ...Array.from({ length: steps }, (_, index) => step(index + 1, 10 - index * 0.1 + (index >= 30 ? offset : 0))),
    ...[evaluation(20, 5), evaluation(40, 4 + offset)],
    ...(offset > 0 ? [evaluation(50, 3)] : []),
    end(steps),
  ];
  const a = await run({}, events(0, 48));
  const b = await run({}, [...events(0.5, 60), step(61, 1)]);
  const { commonSteps, firstDifference, losses, evaluations, runs } = compareRuns(a, b);
  t.equal(commonSteps, 48);
  t.same(firstDifference, { step: 31, a: 7, b: 7.5 });
  t.equal(losses.length, 12);
  t.same(losses.at(-1)?.step, 48);
  t.ok(Math.abs((losses[0]?.a ?? 0) - 9.85) < 1e-9, 'the mean of the first four');
  t.ok(Math.abs((losses[11]?.b ?? 0) - (losses[11]?.a ?? 0) - 0.5) < 1e-9);
  t.same(evaluations, [
    { step: 20, a: 5, b: 5 },
    { step: 40, a: 4, b: 4.5 },
  ]);
  t.match(runs.a, { steps: 48, best: { step: 40, loss: 4 }, reason: 'completed' });
  t.match(runs.b, { steps: 61, loss: 1, best: { step: 50, loss: 3 }, reason: null });
  const diverged = await run({}, [...events(0, 48), JSON.parse(JSON.stringify(evaluation(48, Number.NaN)))]);
  t.match(compareRuns(a, diverged).runs.b.best, { step: 40 }, 'an evaluation that gave no number is never the best');
  const anew = await run({}, [...events(0, 48), { ...evaluation(48, 6), anew: true }, evaluation(50, 5)]);
  t.match(compareRuns(a, anew).runs.b.best, { step: 50, loss: 5 }, 'nor one of other data than the last');
  t.equal(compareRuns(a, a).firstDifference, null);
});

t.test('many evaluations are thinned out, the last one stays; runs without any step', async (t) => {
  const many = await run(
    {},
    Array.from({ length: 30 }, (_, index) => evaluation(index + 1, index)),
  );
  const { evaluations } = compareRuns(many, many);
  t.equal(evaluations.length, 12);
  t.equal(evaluations.at(-1)?.step, 30);
  const nothing = await run({}, []);
  t.match(compareRuns(nothing, many), {
    commonSteps: 0,
    losses: [],
    runs: { a: { steps: 0, loss: null, best: null } },
  });
});
