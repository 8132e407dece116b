import fc from 'fast-check';
import t from 'tap';
import { flopsPerToken, flopsUtilization, peakFlops } from '../../dist/report/flops.js';
import { lossText } from '../../dist/report/format.js';
import { History, type HistoryRow } from '../../dist/report/history.js';
import { RunRecord } from '../../dist/report/run-record.js';
import {
  linearScale,
  linearTicks,
  logScale,
  shortNumber,
  tickDigits,
  tickTime,
  timeStep,
  wholeStep,
} from '../../dist/report/scale.js';
import { smooth } from '../../dist/report/smooth.js';
import { sparkline } from '../../dist/report/sparkline.js';
import type { StartEvent } from '../../dist/train/events.js';
import { checkpointEvent, endEvent, evalEvent, sampleEvent, startEvent, stepEvent } from './helpers/events.js';

const row = (step: number, loss = step): HistoryRow => ({
  ...{ step, tokens: 10 * step, seconds: step / 2, loss, lossLow: loss, lossHigh: loss, learningRate: 1, gradNorm: 1 },
  ...{ gradNormLow: 1, gradNormHigh: 1, stepTokens: 10, dataSeconds: 0, computeSeconds: 1, updateSeconds: 0 },
});

t.test('a short history is kept as it is', async (t) => {
  const history = new History();
  history.add(row(1, 5));
  history.add(row(2, 3));
  t.same(history.columns.step, [1, 2]);
  t.same(history.columns.loss, [5, 3]);
  t.same(history.columns.lossLow, [5, 3]);
});

t.test('a long one stays small, its means stay true, and a spike stays visible', async (t) => {
  const history = new History();
  const total = 100_000;
  for (let step = 1; step <= total; step++) history.add(row(step, step === 54_321 ? 1e9 : step));
  const { step, tokens, loss, lossLow, lossHigh } = history.columns;
  t.ok(step.length >= 800 && step.length < 1600);
  t.equal(Math.max(...lossHigh), 1e9);
  for (const [index, last] of step.entries()) {
    const first = (step[index - 1] ?? 0) + 1;
    t.equal(last - first + 1, history.stride);
    t.equal(tokens[index], 10 * last);
    t.equal(lossLow[index], first);
    if (lossHigh[index] === 1e9) continue;
    t.equal(loss[index], (first + last) / 2);
    t.equal(lossHigh[index], last);
  }
});

t.test('the newest steps are a point, too', async (t) => {
  const history = new History();
  t.same(history.all('step'), []);
  for (let step = 1; step <= 1603; step++) history.add(row(step, step === 1603 ? 7 : 5));
  t.equal(history.stride, 2);
  t.same(history.all('step').slice(-2), [1602, 1603]);
  t.same(history.all('loss').slice(-2), [5, 7]);
  history.add(row(1604, 9));
  t.same(history.all('step').slice(-2), [1602, 1604]);
  t.same(history.all('loss').slice(-2), [5, 8]);
});

t.test('a history goes on from its JSON as if nothing had happened', async (t) => {
  const whole = new History();
  let parts = new History();
  for (let step = 1; step <= 5000; step++) {
    whole.add(row(step, Math.sin(step)));
    parts.add(row(step, Math.sin(step)));
    if (step % 777 === 0) parts = new History(JSON.parse(JSON.stringify(parts)));
  }
  t.same(parts.columns, whole.columns);
});

t.test('a record knows a run from its events', async (t) => {
  const record = new RunRecord();
  record.add(startEvent());
  for (let step = 1; step <= 3; step++) record.add(stepEvent(step, { loss: 6 - step }));
  record.add(evalEvent(3, 4));
  record.add(evalEvent(3, 3.5));
  record.add(evalEvent(3, 3.8));
  record.add(sampleEvent(3, 'x'));
  record.add(checkpointEvent(3));
  record.add({ type: 'control', step: 3, action: 'pause' });
  record.add({ type: 'control', step: 3, action: 'learningRate', learningRate: 1e-4 });
  record.add({ type: 'warning', step: 3, code: 'ERR_IO', message: 'disk full' });
  record.add({ type: 'gradients', step: 3, tensors: [] });
  t.match(record.now, { paused: true, peakLearningRate: 1e-4 });
  t.equal(record.now.smoothedLoss?.toFixed(9), (0.81 * 5 + 0.09 * 4 + 0.1 * 3).toFixed(9));
  t.same(record.now.time, { data: 1.5, compute: 3, update: 1.5, evaluate: 3, sample: 0.5, save: 1 });
  t.equal(record.seconds, 10.5);
  t.equal(record.best?.loss, 3.5);
  t.match(record.now.evaluations[0], { runTokens: 3 * 6144, runSeconds: 7 });
  t.same(record.history.columns.seconds, [2, 4, 6]);
  record.add(endEvent(3));
  t.match(record.now, { paused: false, end: { step: 3 } });
  record.add(startEvent(3));
  t.equal(record.now.end, null, 'it goes on');
  const copy = new RunRecord(JSON.parse(JSON.stringify(record)));
  t.same(copy.toJSON(), record.toJSON());
});

t.test('an evaluation that gave no number takes its time, and is no point of the curve', async (t) => {
  const record = new RunRecord();
  const nothing = JSON.parse(JSON.stringify(evalEvent(2, Number.NaN)));
  for (const event of [evalEvent(1, 4), nothing, evalEvent(3, 720)]) record.add(JSON.parse(JSON.stringify(event)));
  t.same(
    record.now.evaluations.map(({ step }) => step),
    [1, 3],
  );
  t.equal(record.best?.step, 1);
  t.equal(record.now.time.evaluate, 3);
});

t.test('steps that an older release recorded have no time of the update', async (t) => {
  const record = new RunRecord();
  record.add(JSON.parse(JSON.stringify({ ...stepEvent(1), updateSeconds: undefined })));
  t.match(record.now.time, { data: 0.5, compute: 1.5, update: 0 });
});

t.test('lists stay short: their beginnings thin out, their ends stay whole', async (t) => {
  const record = new RunRecord();
  for (let step = 1; step <= 10_000; step++) record.add(sampleEvent(step, 'x'));
  const steps = record.now.samples.map(({ step }) => step);
  t.ok(steps.length > 50 && steps.length <= 120, String(steps.length));
  t.equal(steps[0], 1);
  t.same(
    steps.slice(-20),
    Array.from({ length: 20 }, (_, index) => 9981 + index),
  );
});

t.test('evaluations that begin anew are not compared with those before', async (t) => {
  const record = new RunRecord();
  record.add(evalEvent(1, 1));
  record.add({ ...evalEvent(2, Number.NaN), anew: true });
  t.equal(record.best, undefined);
  for (const [step, loss] of [3, 2, 2.5].entries()) record.add(evalEvent(step + 3, loss));
  t.match(record.best, { step: 4, loss: 2 });
  t.equal(record.now.evaluations.length, 4, 'all are shown');
});

t.test('the best evaluation is known however many follow', async (t) => {
  const record = new RunRecord();
  for (let step = 1; step <= 5000; step++) record.add(evalEvent(step, step === 2 ? 1 : 3 + step / 1e4));
  t.match(record.best, { step: 2, loss: 1 });
  t.notOk(
    record.now.evaluations.some(({ step }) => step === 2),
    'the list has lost it',
  );
  t.match(new RunRecord(JSON.parse(JSON.stringify(record))).best, { step: 2, loss: 1 });
});

t.test('a learning rate that was set lasts until the run is begun again or continued with another one', async (t) => {
  const started = (lr: number, resumedFrom: string | null) => {
    const record = new RunRecord();
    record.add(startEvent(0, { configuration: { training: { lr: 1e-3 } } }));
    record.add({ type: 'control', step: 3, action: 'learningRate', learningRate: 1e-4 });
    record.add(startEvent(3, { configuration: { training: { lr } }, resumedFrom }));
    return record.now.peakLearningRate;
  };
  t.equal(started(1e-3, 'checkpoints/step-00000003'), 1e-4);
  t.equal(started(2e-3, 'checkpoints/step-00000003'), null);
  t.equal(started(1e-3, null), null);
});

t.test('operations: 6 for each parameter but the positions, and those of attention', async (t) => {
  const perToken = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024;
  t.equal(flopsPerToken(startEvent()), perToken);
  t.equal(flopsPerToken(startEvent(0, { configuration: {} })), undefined);
  const on = (name: string, precision: string) =>
    peakFlops(startEvent(0, { precision, device: { device: 'cuda:0', name, detail: '' } }));
  t.equal(on('NVIDIA H100 80GB HBM3', 'bf16'), 989e12);
  t.equal(on('NVIDIA H100 PCIe', 'bf16'), 756e12);
  t.equal(on('NVIDIA GeForce RTX 4090', 'fp32'), 82.6e12);
  t.equal(on('Tesla V100-SXM2-16GB', 'bf16'), undefined);
  t.equal(on('NVIDIA Something New', 'bf16'), undefined);
  t.equal(peakFlops(startEvent()), undefined, 'a CPU that was not measured');
  const { peakFlops: _, ...older } = startEvent();
  t.equal(peakFlops(older as StartEvent), undefined, 'a run of before there was such a measurement');
  t.equal(flopsUtilization(startEvent(), 1000), undefined);
  const measured = startEvent(0, { peakFlops: 3e11 });
  t.equal(peakFlops(measured), 3e11);
  t.equal(flopsUtilization(measured, 200), (200 * perToken) / 3e11);
  t.equal(flopsUtilization({ ...measured, configuration: {} }, 200), undefined);
});

t.test('smoothing is the mean of all values, old ones weighing less', async (t) => {
  t.same(smooth([1, 5, 2], 0), [1, 5, 2]);
  const [first, second, third] = smooth([1, 5, 2], 0.5);
  t.equal(first, 1);
  t.ok(Math.abs(second - (0.5 * 1 + 5) / 1.5) < 1e-12);
  t.ok(Math.abs(third - (0.25 * 1 + 0.5 * 5 + 2) / 1.75) < 1e-12);
  t.ok(smooth(new Array(1000).fill(7), 0.99).every((value) => Math.abs(value - 7) < 1e-9));
});

t.test('sparkline', async (t) => {
  t.equal(sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8), '█▇▆▅▄▃▂▁');
  t.equal(sparkline([3, 1, 2, 0], 2), '█▁');
  t.equal(sparkline([5], 10), '▁');
  t.equal(sparkline([5, 5, 5], 3), '▁▁▁');
  t.equal(sparkline([], 10), '');
});

t.test('ticks are round and inside the range', async (t) => {
  t.same(linearTicks(0, 100, 5), [0, 20, 40, 60, 80, 100]);
  t.same(linearTicks(1.93, 10.2, 5), [2, 4, 6, 8, 10]);
  t.same(linearTicks(-0.003, 0.0041, 5), [-0.002, 0, 0.002, 0.004]);
  t.same(linearTicks(0.05, 0.32, 3), [0.1, 0.2, 0.3]);
  t.same(logScale(0.9, 1100, 6).ticks, [1, 10, 100, 1000]);
  t.same(logScale(2e-4, 0.015, 6).ticks, [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01]);
  t.same(logScale(2, 9, 4).ticks, [2, 4, 6, 8]);
  t.same(logScale(1e-9, 1e9, 4).ticks, [1e-5, 1, 1e5]);
});

t.test("scales: places and values are each other's inverse", async () => {
  const positive = fc.double({ min: 1e-6, max: 1e6, noNaN: true });
  fc.assert(
    fc.property(positive, fc.double({ min: 1.01, max: 1e6, noNaN: true }), positive, (low, ratio, value) => {
      const high = low * ratio;
      for (const make of [linearScale, logScale]) {
        const scale = make(low, high, 5);
        const back = scale.value(scale.place(value));
        if (!(Math.abs(back - value) <= 1e-6 * Math.max(high, value))) return false;
        if (!scale.ticks.every((tick) => scale.place(tick) > -1e-6 && scale.place(tick) < 1 + 1e-6)) return false;
      }
      return true;
    }),
  );
});

t.test('losses', async (t) => {
  t.same([3.21456, -2e5, 4.98e30].map(lossText), ['3.2146', '-200000.0000', '4.98e+30']);
});

t.test('numbers at ticks', async (t) => {
  t.same(
    [0, 0.3, 0.3000000000000004, 2e-5, 6e-4, 812, 9999, 15_000, 1_250_000, -0.25].map((value) => shortNumber(value)),
    ['0', '0.3', '0.3', '2e-5', '6e-4', '812', '9999', '15k', '1.25M', '-0.25'],
  );
  t.same(
    [9999.6, 999_999, 999_999_999, 50_016, 5e14, 5e15, -1e300].map((value) => shortNumber(value)),
    ['10k', '1M', '1G', '50.02k', '500T', '5e+15', '-1e+300'],
  );
  const texts = (ticks: number[]) => ticks.map((tick) => shortNumber(tick, tickDigits(ticks)));
  t.same(texts([50_016, 50_017]), ['50.016k', '50.017k']);
  t.same(texts([3.2, 3.20005, 3.2001]), ['3.2', '3.20005', '3.2001']);
  t.same(texts([0, 20, 40]), ['0', '20', '40']);
  t.same(texts([1e-5, 1, 1e5]), ['1e-5', '1', '100k']);
});

t.test('ticks of steps are whole, those of times are what clocks have', async (t) => {
  t.same(linearTicks(0, 2, 10, wholeStep), [0, 1, 2]);
  t.same(linearTicks(0, 9000, 5, timeStep), [0, 1800, 3600, 5400, 7200, 9000]);
  t.same([0.01, 3, 12, 40, 700, 5000, 50_000, 100_000, 1e6].map(timeStep), [
    ...[1, 5, 15, 60, 900, 7200, 86_400, 2 * 86_400, 20 * 86_400],
  ]);
  t.same(
    [0, 1800, 3600, 5400].map((seconds) => tickTime(seconds, 1800)),
    ['0s', '30m', '1h 00m', '1h 30m'],
  );
  t.same(
    [3600, 86_400, 172_800].map((seconds) => tickTime(seconds, 3600)),
    ['1h', '24h', '2d 00h'],
  );
  t.same(
    [10_000, 10_015].map((seconds) => tickTime(seconds, 5)),
    ['2h 46m 40s', '2h 46m 55s'],
  );
  t.same(
    [45, 60, 75].map((seconds) => tickTime(seconds, 15)),
    ['45s', '1m 00s', '1m 15s'],
  );
});
