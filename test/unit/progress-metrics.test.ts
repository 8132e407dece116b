import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { MetricsLog, readMetrics } from '../../dist/report/metrics.js';
import { recorded } from '../../dist/report/record.js';
import { reportPage } from '../../dist/report/report.js';
import { RunRecord } from '../../dist/report/run-record.js';
import type { TrainEvent } from '../../dist/train/events.js';
import {
  all,
  checkpointEvent,
  endEvent,
  evalEvent,
  from,
  sampleEvent,
  startEvent,
  stepEvent,
} from './helpers/events.js';

t.test('a resumed run cuts what came after its checkpoint: no step appears twice', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const before = [
    startEvent(0),
    stepEvent(1),
    stepEvent(2),
    sampleEvent(2, 'line\u2028separator'),
    checkpointEvent(2),
    stepEvent(3),
    endEvent(3),
  ];
  writeFileSync(path, before.map((event) => JSON.stringify(event)).join('\n'));
  const log = await MetricsLog.open(path, 2);
  for (const event of [startEvent(2), stepEvent(3), stepEvent(4)]) await log.write(event);
  await log.close();
  t.same(await all(readMetrics(path)), [...before.slice(0, 5), startEvent(2), stepEvent(3), stepEvent(4)]);
  t.equal(readFileSync(path, 'utf8').split('\n').length, 9);
});

t.test('what was added to the checkpoint after its line stays, unless the run does it anew', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const kept = [startEvent(0), stepEvent(1), stepEvent(2), checkpointEvent(2), sampleEvent(2, 'a'), evalEvent(2, 4)];
  const ends = { end: endEvent(2), 'next start': startEvent(2), 'next step': stepEvent(3) };
  for (const [what, end] of Object.entries(ends)) {
    for (const anew of [[], ['eval'], ['eval', 'sample']] as const) {
      writeFileSync(path, [...kept, end, evalEvent(2, 5)].map((event) => `${JSON.stringify(event)}\n`).join(''));
      await (await MetricsLog.open(path, 2, anew)).close();
      t.same(await all(readMetrics(path)), kept.slice(0, kept.length - anew.length), `${what}, ${anew}`);
    }
  }
});

t.test('skipped updates that the checkpoint knows stay, over several starts; those behind it come again', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const skip = (message: string): TrainEvent => ({ type: 'warning', step: 3, code: 'ERR_NON_FINITE', message });
  const saved = checkpointEvent(2);
  const lines = [
    stepEvent(1),
    stepEvent(2),
    skip('1'),
    saved,
    startEvent(2),
    skip('2'),
    saved,
    skip('3'),
    stepEvent(3),
  ];
  for (const [skipped, kept] of [2, 4, 7].entries()) {
    writeFileSync(path, lines.map((event) => `${JSON.stringify(event)}\n`).join(''));
    await (await MetricsLog.open(path, 2, [], skipped)).close();
    t.same(await all(readMetrics(path)), lines.slice(0, kept), `${skipped} of them`);
  }
});

t.test('a checkpoint whose own line was lost, and a line cut in the middle', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const whole = [startEvent(0), stepEvent(1), stepEvent(2)].map((event) => `${JSON.stringify(event)}\n`).join('');
  writeFileSync(path, `${whole}{"type":"checkpo`);
  const log = await MetricsLog.open(path, 2);
  await log.write(stepEvent(3));
  await log.close();
  t.equal(readFileSync(path, 'utf8'), `${whole}${JSON.stringify(stepEvent(3))}\n`);
});

t.test('a line that is no event is left out, and told; the others stay, after a resumption too', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const whole = [startEvent(0), stepEvent(1), evalEvent(1, 4)];
  const { updateSeconds: _, ...old } = stepEvent(2);
  const foreign = ['null', '7', '[]', '"step"', '{}', '{"type":"step"}', '{"type":"step","step":3}', '{"step":3}'];
  const damaged = [
    { ...stepEvent(3), loss: null },
    { ...evalEvent(3, 4), seconds: '4' },
    { ...startEvent(0), step: 'x' },
    { type: 'start', step: 0 },
    { ...startEvent(0), configuration: null },
    { ...startEvent(0), device: { device: 'cpu' } },
    { ...startEvent(0), memory: null },
    { ...startEvent(0), totalSteps: 'many' },
    { type: 'sample', step: 3 },
    { ...checkpointEvent(3), bytes: null },
    { type: 'control', step: 3, action: 'learningRate' },
    { type: 'warning', step: 3 },
    { type: 'end', step: 3 },
  ];
  for (const line of ['{"type":"st', '', ...foreign, ...damaged.map((event) => JSON.stringify(event))]) {
    const lines = [...whole, old].map((event) => JSON.stringify(event));
    const text = `${[...lines, line, JSON.stringify(stepEvent(4))].join('\n')}\n`;
    writeFileSync(path, text);
    const left: number[] = [];
    t.same(await all(readMetrics(path, (line) => left.push(line))), [...whole, old, stepEvent(4)], line);
    t.same(left, [5]);
    const record = new RunRecord();
    for await (const event of readMetrics(path)) record.add(event);
    t.match(reportPage([{ name: 'a', record }]), 'step 4 of 200', 'a page can be made of it');
    const log = await MetricsLog.open(path, 4);
    await log.write(stepEvent(5));
    await log.close();
    t.equal(readFileSync(path, 'utf8'), `${text}${JSON.stringify(stepEvent(5))}\n`, 'nothing is lost');
  }
});

t.test('a file that is not there is an error of ours', async (t) => {
  const missing = join(t.testdir(), 'nope');
  await t.rejects(all(readMetrics(missing)), {
    code: 'ERR_IO',
    message: /nope could not be read/,
    hint: 'check the path',
  });
  await t.rejects(all(readMetrics(t.testdirName)), { code: 'ERR_IO', hint: /a file, not a folder/ });
});

t.test('a fresh run begins an empty file', async (t) => {
  const path = join(t.testdir({ 'metrics.jsonl': '{"type":"step","step":1}\n' }), 'metrics.jsonl');
  const log = await MetricsLog.open(path, 0);
  await log.write(startEvent(0));
  await log.close();
  t.same(await all(readMetrics(path)), [startEvent(0)]);
});

t.test('events pass through, and leave metrics.jsonl and report.html behind', async (t) => {
  const out = t.testdir();
  const first = [startEvent(0), stepEvent(1), checkpointEvent(1), stepEvent(2)];
  t.same(await all(recorded(from(first), out)), first);
  const hostile = '</script><script>alert(1)</script>';
  const second = [startEvent(1, { out: hostile }), stepEvent(2), sampleEvent(2, hostile), endEvent(2)];
  t.same(await all(recorded(from(second), out)), second);
  t.same(await all(readMetrics(join(out, 'metrics.jsonl'))), [...first.slice(0, 3), ...second]);
  const html = readFileSync(join(out, 'report.html'), 'utf8');
  t.equal(html.match(/<script/g)?.length, 2, 'the data and the page');
  t.equal(html.match(/<\/script/g)?.length, 2);
  t.match(html, '<title>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</title>');
  const { runs } = JSON.parse(/id="data">(.*)<\/script>/.exec(html)?.[1] ?? '');
  t.equal(runs[0].name, hostile);
  t.same(runs[0].state.samples, [second[2]]);
  t.same(runs[0].state.history.columns.step, [1, 2], 'the step that was repeated is there once');
  t.equal(runs[0].state.checkpoints.length, 1);
  t.match(html, /<noscript><pre>.*: completed, step 2 of 200, loss 5\.0000/);
});

t.test("a page's policy allows its own script and style, and nothing else", async (t) => {
  const html = reportPage([{ name: 'a', record: new RunRecord() }]);
  const policy = /Content-Security-Policy" content="([^"]*)"/.exec(html)?.[1] ?? '';
  const hash = (text?: string) =>
    `'sha256-${createHash('sha256')
      .update(text ?? '')
      .digest('base64')}'`;
  const script = /<script>([\s\S]*)<\/script>/.exec(html.slice(html.indexOf('</script>') + 9))?.[1];
  t.ok(policy.includes(`script-src ${hash(script)};`), policy);
  t.ok(policy.includes(`style-src ${hash(/<style>([\s\S]*)<\/style>/.exec(html)?.[1])};`));
  t.ok(policy.startsWith("default-src 'none';"));
  t.match(policy, "connect-src 'none'");
  t.notMatch(html, /(src|href)="?(https?:)?\/\//, 'it fetches nothing');
});

t.test('a hook sees every event; one that fails is a warning, and the run goes on', async (t) => {
  const out = t.testdir();
  const events = [startEvent(0), stepEvent(1), stepEvent(2), stepEvent(3), stepEvent(4), endEvent(4)];
  const seen: TrainEvent[] = [];
  const onEvent = (event: TrainEvent) => {
    seen.push(event);
    if (event.type === 'step' && event.step < 3) throw new Error('no network');
    return event.type === 'step' ? Promise.reject(new Error('refused')) : undefined;
  };
  const passed = await all(recorded(from(events), out, { onEvent }));
  t.same(seen, events);
  const warnings = passed.filter(({ type }) => type === 'warning');
  t.match(warnings, [
    { step: 1, message: /no network/ },
    { step: 4, message: /onEvent: refused/ },
  ]);
  t.same(
    passed.filter(({ type }) => type !== 'warning'),
    events,
  );
});

t.test('a hook that fails with the last event is told as well', async (t) => {
  const onEvent = ({ type }: TrainEvent) => (type === 'end' ? Promise.reject(new Error('too late')) : undefined);
  const seen = await all(recorded(from([startEvent(0), endEvent(0)]), t.testdir(), { onEvent }));
  t.match(seen.slice(2), [{ type: 'warning', message: /not all of the run is recorded in .*onEvent: too late/ }]);
});

t.test('a disk that refuses is a warning, not the end, and nothing is lost when it takes writes again', async (t) => {
  const out = t.testdir({ 'report.html': {} });
  const events = [startEvent(0), stepEvent(1), checkpointEvent(1), stepEvent(2), checkpointEvent(2), stepEvent(3)];
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
