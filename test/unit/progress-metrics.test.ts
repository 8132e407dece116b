import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { MetricsLog, readMetrics } from '../../dist/report/metrics.js';
import { recorded } from '../../dist/report/record.js';
import type { TrainEvent } from '../../dist/train/events.js';

const step = (number: number): TrainEvent => ({
  ...{ type: 'step', step: number, loss: 10 / number, learningRate: 1e-3, gradNorm: 1, tokensPerSecond: 5 },
  ...{ tokens: number, epoch: 1, dataWaitShare: 0, stepSeconds: 1 },
});
const checkpoint = (number: number): TrainEvent => ({
  ...{ type: 'checkpoint', step: number, path: `step-${number}`, bytes: 1, seconds: 1, pausedSeconds: 0 },
});
const start = (number: number): TrainEvent => ({
  ...{ type: 'start', step: number, time: 0, resumedFrom: null, out: 'runs/<a>', precision: 'fp32', parameters: 10 },
  ...{ device: { device: 'cpu', name: 'x', detail: '' }, batchSize: 1, blockSize: 2, gradAccum: 1, tokensPerStep: 2 },
  ...{ stepsPerEpoch: null, totalSteps: null, configuration: { options: { train: ['a.txt', 'b.txt'] } } },
  memory: { parameters: 1, gradients: 1, moments: 1, activations: 1, total: 4, free: 9 },
});
const end = (number: number): TrainEvent => ({
  ...{ type: 'end', step: number, reason: 'aborted', loss: 1, evalLoss: null, tokens: 1, seconds: 1, checkpoint: null },
});
const sample = (number: number, text: string): TrainEvent => ({ type: 'sample', step: number, prompt: '', text });

async function all<T>(events: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const event of events) found.push(event);
  return found;
}

async function* from(events: TrainEvent[]): AsyncGenerator<TrainEvent> {
  yield* events;
}

t.test('a resumed run cuts what came after its checkpoint: no step appears twice', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const before = [start(0), step(1), step(2), sample(2, 'line\u2028separator'), checkpoint(2), step(3), end(3)];
  writeFileSync(path, before.map((event) => JSON.stringify(event)).join('\n'));
  const log = await MetricsLog.open(path, 2);
  for (const event of [start(2), step(3), step(4)]) await log.write(event);
  await log.close();
  t.same(await all(readMetrics(path)), [...before.slice(0, 5), start(2), step(3), step(4)]);
  t.equal(readFileSync(path, 'utf8').split('\n').length, 9);
});

t.test('a checkpoint whose own line was lost, and a line cut in the middle', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const whole = [start(0), step(1), step(2)].map((event) => `${JSON.stringify(event)}\n`).join('');
  writeFileSync(path, `${whole}{"type":"checkpo`);
  const log = await MetricsLog.open(path, 2);
  await log.write(step(3));
  await log.close();
  t.equal(readFileSync(path, 'utf8'), `${whole}${JSON.stringify(step(3))}\n`);
});

t.test('a fresh run begins an empty file', async (t) => {
  const path = join(t.testdir({ 'metrics.jsonl': '{"type":"step","step":1}\n' }), 'metrics.jsonl');
  const log = await MetricsLog.open(path, 0);
  await log.write(start(0));
  await log.close();
  t.same(await all(readMetrics(path)), [start(0)]);
});

t.test('events pass through, and leave metrics.jsonl and report.html behind', async (t) => {
  const out = t.testdir();
  const first = [start(0), step(1), checkpoint(1), step(2)];
  t.same(await all(recorded(from(first), out)), first);
  const second = [start(1), step(2), { ...sample(2, '<script>alert(1)</script>') }, end(2)];
  t.same(await all(recorded(from(second), out)), second);
  t.same(await all(readMetrics(join(out, 'metrics.jsonl'))), [...first.slice(0, 3), ...second]);
  const html = readFileSync(join(out, 'report.html'), 'utf8');
  t.match(html, '<h1>runs/&lt;a&gt;</h1>');
  t.match(html, '&lt;script&gt;alert(1)&lt;/script&gt;');
  t.notMatch(html, '<script');
  t.match(html, '<td>a.txt, b.txt</td>');
  t.notMatch(html, 'NaN');
  t.equal(html.match(/<polyline/g)?.length, 4, 'loss, learning rate, norm, speed');
});

t.test('a disk that refuses is a warning, not the end, and nothing is lost when it takes writes again', async (t) => {
  const out = t.testdir({ 'report.html': {} });
  const events = [start(0), step(1), checkpoint(1), step(2), checkpoint(2), step(3)];
  const seen = await all(recorded(from(events), out));
  const warnings = seen.filter(({ type }) => type === 'warning');
  t.equal(warnings.length, 2);
  t.match(warnings[0], { code: 'ERR_IO', step: 1, message: /could not be recorded/ });
  t.same(
    seen.filter(({ type }) => type !== 'warning'),
    events,
  );
  t.same(await all(readMetrics(join(out, 'metrics.jsonl'))), events);
});
