import t from 'tap';
import { bytes, count, duration } from '../../dist/report/format.js';
import { Progress } from '../../dist/report/progress.js';
import type { EndEvent, StartEvent, StepEvent } from '../../dist/train/events.js';

const start: StartEvent = {
  ...{ type: 'start', step: 0, time: 0, resumedFrom: null, out: 'runs/a', precision: 'fp32', parameters: 124_439_808 },
  device: { device: 'cpu', name: 'AMD EPYC', detail: 'avx2, 2 threads' },
  ...{ batchSize: 3, blockSize: 1024, gradAccum: 2, tokensPerStep: 6144, stepsPerEpoch: 50, totalSteps: 200 },
  memory: { parameters: 5e8, gradients: 5e8, moments: 1e9, activations: 2e9, total: 4e9, free: 2 ** 33 },
  configuration: {},
};

const step = (number: number, loss = 5): StepEvent => ({
  ...{
    type: 'step',
    step: number,
    loss,
    learningRate: 6e-4,
    gradNorm: 1.234,
    tokensPerSecond: 812,
    tokens: 6144 * number,
  },
  ...{ epoch: 1, dataWaitShare: 0, stepSeconds: 2 },
});

const end: EndEvent = {
  ...{ type: 'end', step: 200, reason: 'completed', loss: 3.21, evalLoss: 3.5, tokens: 1_228_800, seconds: 400 },
  checkpoint: 'runs/a/checkpoints/step-00000200',
};

function screen(options: { isTTY?: boolean; columns?: number; interval?: number; seconds?: number }) {
  let written = '';
  let now = 0;
  const stream = { ...options, write: (text: string) => (written += text) };
  const progress = new Progress(stream, { ...options, colour: false, now: () => (now += options.seconds ?? 1) });
  return { progress, text: () => written };
}

t.test('numbers as people read them', async (t) => {
  t.same([0, 812, 999.4, 1000, 32_100, 124_439_808].map(count), ['0', '812', '999.4', '1.0k', '32.1k', '124M']);
  t.same([0, 1023, 1536, 6.5 * 2 ** 30].map(bytes), ['0 B', '1023 B', '1.5 KiB', '6.5 GiB']);
  t.same([0.4, 59.6, 185, 7620, 273_600].map(duration), ['0s', '1m 00s', '3m 05s', '2h 07m', '3d 04h']);
});

t.test('on a terminal one line lives: it is rewritten, and cleared before what lasts', async (t) => {
  const { progress, text } = screen({ isTTY: true, columns: 100 });
  progress.show(start);
  progress.show(step(1));
  progress.show(step(2));
  progress.show({ type: 'eval', step: 2, loss: 4, perplexity: Math.exp(4), tokens: 10, seconds: 1 });
  const [, live = ''] = text().split(' free, ');
  const lines = live.split('\n');
  const clear = '\r\x1b[2K';
  t.equal(
    lines[1]?.split(clear)[1],
    'step   1/200  loss 5.0000  812 tok/s  ETA 6m 38s  lr 6.00e-4  norm 1.23  epoch 1',
  );
  t.match(lines[1]?.split(clear)[2], 'step   2/200  ');
  t.equal(lines[1]?.split(clear)[3], 'eval at step 2: loss 4.0000, perplexity 54.60');
});

t.test('a narrow terminal shows whole parts only, on one line', async (t) => {
  const { progress, text } = screen({ isTTY: true, columns: 31 });
  progress.show(step(1));
  t.equal(text(), '\r\x1b[2Kstep 1  loss 5.0000  812 tok/s');
  progress.end();
  t.ok(text().endsWith('\n'));
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
  t.match(text(), /memory +3\.7 GiB of 8\.0 GiB free, activations 1\.9 GiB/);
});

t.test('the summary says how it ended and where everything is', async (t) => {
  const { progress, text } = screen({});
  progress.show({ ...start, totalSteps: null, stepsPerEpoch: null });
  progress.show({ ...end, reason: 'aborted' });
  t.match(text(), 'stopped at step 200 after 6m 40s, 1.2M tokens, loss 3.2100, validation loss 3.5000');
  t.match(text(), 'the run is in runs/a');
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
    progress.show({ type: 'warning', step: 1, code: 'ERR_IO', message: 'disk full' });
    return written;
  };
  delete process.env.NO_COLOR;
  t.equal(warn(true), '\x1b[33mwarning: disk full\x1b[0m\n');
  t.equal(warn(false), 'warning: disk full\n');
  process.env.NO_COLOR = '1';
  t.equal(warn(true), 'warning: disk full\n');
});
