import t from 'tap';
import { bytes, count, duration } from '../../dist/report/format.js';
import { Progress } from '../../dist/report/progress.js';
import { endEvent, evalEvent, sampleEvent, startEvent, stepEvent } from './helpers/events.js';

// A dumb terminal, which the tests may be run in, gets plain lines.
process.env.TERM = 'xterm';

const start = startEvent();
const step = (number: number, loss = 5) => stepEvent(number, { loss });
const end = endEvent(200, { seconds: 400 });

function screen(options: {
  isTTY?: boolean;
  columns?: number;
  interval?: number;
  seconds?: number;
  unicode?: boolean;
}) {
  let written = '';
  let now = 0;
  const stream = { ...options, write: (text: string) => (written += text) };
  const progress = new Progress(stream, {
    unicode: false,
    ...options,
    colour: false,
    now: () => (now += options.seconds ?? 1),
  });
  return { progress, text: () => written };
}

t.test('numbers as people read them', async (t) => {
  t.same([0, 812, 999.4, 1000, 32_100, 124_439_808].map(count), ['0', '812', '999.4', '1.0k', '32.1k', '124M']);
  t.same([0, 1023, 1536, 6.5 * 2 ** 30].map(bytes), ['0 B', '1023 B', '1.5 KiB', '6.5 GiB']);
  t.same([0.4, 59.6, 185, 7620, 273_600].map(duration), ['0s', '1m 00s', '3m 05s', '2h 07m', '3d 04h']);
});

t.test('on a terminal one line lives: it is rewritten, and cleared before what lasts', async (t) => {
  const { progress, text } = screen({ isTTY: true, columns: 140 });
  progress.show(start);
  progress.show(step(1));
  progress.show(step(2, 4));
  progress.show(evalEvent(2, 4));
  const [, live = ''] = text().split('activations 1.9 GiB\n');
  const lines = live.split('\r\x1b[2K');
  const speed = `${((6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024) * 3072) / 1e12}`.slice(0, 3);
  const rest = `lr 6.00e-4  ${speed} TFLOP/s  data 25%  norm 1.23  epoch 1`;
  t.equal(lines[1], `step   1/200  loss 5.0000  avg 5.0000  3.1k tok/s  ETA 6m 38s  ${rest}`);
  t.equal(lines[2], `step   2/200  loss 4.0000  avg 4.9000  3.1k tok/s  ETA 6m 36s  ${rest}`);
  t.equal(lines[3], 'eval at step 2: loss 4.0000, perplexity 54.60\n');
});

t.test('on a GPU whose peak is published the line has the share of it', async (t) => {
  const { progress, text } = screen({ isTTY: true, columns: 140 });
  const device = { device: 'cuda:0', name: 'NVIDIA H100 80GB HBM3', detail: '' };
  progress.show({ ...start, device, precision: 'bf16' });
  const perToken = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024;
  progress.show(stepEvent(1, { tokensPerSecond: (0.42 * 989e12) / perToken }));
  t.match(text(), '  MFU 42%  ');
});

t.test('so it has on a CPU that was measured, and the header says what that can do', async (t) => {
  const { progress, text } = screen({ isTTY: true, columns: 140 });
  progress.show({ ...start, peakFlops: 339e9 });
  t.match(text(), /compute .* in all; 339 GFLOP\/s at best\n/);
  const perToken = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024;
  progress.show(stepEvent(1, { tokensPerSecond: (0.55 * 339e9) / perToken }));
  t.match(text(), '  MFU 55%  ');
});

t.test('a narrow terminal shows whole parts only, on one line', async (t) => {
  const { progress, text } = screen({ isTTY: true, columns: 32 });
  progress.show(step(1));
  t.equal(text(), '\r\x1b[2Kstep 1  loss 5.0000  avg 5.0000');
  progress.end();
  t.ok(text().endsWith('\n'));
});

t.test('every width from one column on: the line never wraps, and the sparkline fits', async (t) => {
  for (let columns = 1; columns < 200; columns++) {
    const { progress, text } = screen({ isTTY: true, columns, unicode: true });
    progress.show(start);
    for (let number = 1; number <= 40; number++) progress.show(step(number, 50 - number));
    const last = text().split('\r\x1b[2K').at(-1) as string;
    t.ok(last.length < columns, `${last.length} of ${columns}`);
    if (columns > 75) t.match(last, / {2}█[▁-█]{7,31}$/);
  }
});

t.test('work beside the steps is named in the live line once it takes a while', async (t) => {
  // Time stands still, so that no delay of the machine is told of as well.
  t.intercept(performance, 'now', { value: () => 0 });
  const { progress, text } = screen({ isTTY: true, columns: 100 });
  progress.show(start);
  progress.show(step(100));
  progress.activity({ phase: 'evaluate', done: 0, total: 50 });
  progress.activity({ phase: 'evaluate', done: 12, total: 50 });
  t.notMatch(text(), 'evaluating', 'not at once');
  const waiting = AbortSignal.timeout(10_000);
  while (!text().includes('evaluating') && !waiting.aborted) await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(text().split('\r\x1b[2K').at(-1), 'step 100/200  evaluating 12/50');
  progress.show(evalEvent(100, 4));
  t.match(text().split('\r\x1b[2K').at(-1), /^eval at step 100/);
  const { progress: piped, text: plain } = screen({});
  piped.activity({ phase: 'save', done: 0, total: null });
  t.equal(plain(), '');
});

t.test('what a model writes cannot steer the terminal', async (t) => {
  const { progress, text } = screen({ isTTY: true });
  progress.show(sampleEvent(1, 'a\x1b[2Jb\rc\x07\x7f\x9b\n次の行\tx', 'p\x1b'));
  t.equal(text(), 'sample at step 1:\n  | p\u241ba\u241b[2Jb\u240dc\u2407\u2421\ufffd\n  | 次の行\tx\n');
});

t.test('a perplexity beyond all reading', async (t) => {
  const { progress, text } = screen({});
  for (const loss of [2, 20, 167.6407, 720, Number.NaN]) progress.show(evalEvent(1, loss));
  t.same(text().match(/perplexity [^,\s]+/g), [
    ...['perplexity 7.39', 'perplexity 4.85e+8', 'perplexity 6.39e+72', 'perplexity Infinity', 'perplexity NaN'],
  ]);
});

t.test('a sample without text says so', async (t) => {
  const { progress, text } = screen({});
  progress.show(sampleEvent(1, ''));
  progress.show(sampleEvent(2, '', 'so'));
  t.equal(text(), 'sample at step 1: the model added nothing\nsample at step 2: the model added nothing\n  | so\n');
});

t.test('a resumed run knows its past: what was the best, and the curve', async (t) => {
  const { progress, text } = screen({ isTTY: true, columns: 140, unicode: true });
  for (const event of [start, step(1, 9), step(2, 8), evalEvent(2, 3)]) progress.recall(event);
  t.equal(text(), '', 'nothing of it is shown');
  progress.show(startEvent(2, { resumedFrom: 'step-2' }));
  progress.show(step(3, 7));
  t.match(text(), /[▁-█]{3}$/);
  progress.show(evalEvent(3, 4));
  progress.show(evalEvent(4, 3.5));
  t.notMatch(text(), 'the best so far');
  progress.show(endEvent(4));
  t.match(text(), 'the best validation loss was 3.0000, at step 2');
});

t.test('an evaluation of other data is not compared with those before', async (t) => {
  const { progress, text } = screen({});
  for (const event of [start, step(1, 9), evalEvent(1, 3)]) progress.recall(event);
  progress.show({ ...evalEvent(2, 4), anew: true });
  progress.show(evalEvent(3, 5));
  t.notMatch(text(), 'the best so far');
  progress.show(endEvent(3));
  t.match(text(), 'the best validation loss was 4.0000, at step 2');
});

t.test('what was asked for is told', async (t) => {
  const { progress, text } = screen({});
  progress.show({ type: 'control', step: 7, action: 'learningRate', learningRate: 1e-4 });
  progress.show({ type: 'control', step: 7, action: 'pause' });
  progress.show({ type: 'gradients', step: 7, tensors: [] });
  t.equal(text(), 'asked at step 7: peak learning rate 1.00e-4\nasked at step 7: pause\n');
});

t.test('piped: plain lines now and then, no control characters', async (t) => {
  const { progress, text } = screen({ interval: 10, seconds: 1 });
  progress.show(start);
  for (let number = 1; number <= 25; number++) progress.show(step(number));
  progress.show(end);
  t.notOk(text().includes('\r') || text().includes('\x1b'));
  const steps = text().match(/^step +\d+\/.*$/gm);
  t.equal(steps?.length, 3);
  t.match(steps?.[1], /^step {2}11\/200/);
});

t.test('the header says what was derived', async (t) => {
  const { progress, text } = screen({});
  progress.show(start);
  t.match(text(), /device +cpu, AMD EPYC, avx2, 2 threads/);
  t.match(text(), /parameters +124M \(fp32\)/);
  t.match(text(), /step +3 blocks x 1024 tokens x 2 micro-batches = 6\.1k tokens/);
  t.match(text(), /steps +200 \(1\.2M tokens\), 50 per epoch/);
  t.match(text(), /compute +5\.3 TFLOP per step, 1\.1 PFLOP in all/);
  t.match(text(), /lr +6\.00e-4 to 6\.00e-5 \(cosine\), 20 steps of warmup/);
  t.match(text(), /memory +3\.7 GiB of 8\.5 GiB free, activations 1\.9 GiB/);
});

t.test('in a narrow terminal the header goes on below itself', async (t) => {
  const wide = screen({ isTTY: true, columns: 200 });
  const narrow = screen({ isTTY: true, columns: 40 });
  for (const { progress } of [wide, narrow]) progress.show(start);
  const lines = narrow.text().split('\n');
  for (const line of lines) t.ok(line.length < 40, line);
  t.ok(lines.length > wide.text().split('\n').length);
  t.match(narrow.text(), 'step        3 blocks x 1024 tokens x 2\n            micro-batches = 6.1k tokens\n');
  t.equal(narrow.text().replaceAll(/\n {12}/g, ' '), wide.text(), 'the same words');
  const tiny = screen({ isTTY: true, columns: 5 });
  tiny.progress.show(start);
  t.equal(tiny.text().replaceAll(/\n {12}/g, ' '), wide.text());
});

t.test('the summary says how it ended and where everything is', async (t) => {
  const { progress, text } = screen({});
  progress.show({ ...start, totalSteps: null, stepsPerEpoch: null });
  progress.show(step(1));
  progress.show(evalEvent(1, 3.4));
  progress.show(evalEvent(2, 3.5));
  progress.show({ ...end, reason: 'aborted' });
  t.match(text(), /^step 1 {2}loss 5\.0000 .* epoch 1$/m);
  t.match(text(), 'stopped at step 200 after 6m 40s, 1.2M tokens, loss 3.2100, validation loss 3.5000');
  t.match(text(), 'the best validation loss was 3.4000, at step 1');
  t.match(text(), 'time: evaluation 50%, forward and backward 25%, optimizer 13%, waiting for data 13%');
  t.match(text(), /the run is in runs\/a: the model, .*report\.html/);
  const early = screen({});
  early.progress.show(start);
  early.progress.show({ ...end, reason: 'aborted', step: 0, checkpoint: null });
  t.match(early.text(), /the run is in runs\/a: no model yet, metrics\.jsonl, and report\.html/);
  t.match(text(), 'newest checkpoint: runs/a/checkpoints/step-200');
});

t.test('colour is for terminals whose owner did not set NO_COLOR', async (t) => {
  const before = process.env.NO_COLOR;
  t.teardown(() => {
    if (before === undefined) delete process.env.NO_COLOR;
    else process.env.NO_COLOR = before;
  });
  const warn = (isTTY: boolean) => {
    let written = '';
    const progress = new Progress({ isTTY, write: (text: string) => (written += text) });
    progress.show({ type: 'warning', step: 1, code: 'ERR_IO', message: 'disk \x1b[2Jfull' });
    return written;
  };
  delete process.env.NO_COLOR;
  t.equal(warn(true), '\x1b[33mwarning: disk ␛[2Jfull\x1b[0m\n');
  t.equal(warn(false), 'warning: disk ␛[2Jfull\n');
  process.env.NO_COLOR = '1';
  t.equal(warn(true), 'warning: disk ␛[2Jfull\n');
});
