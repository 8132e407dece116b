// Does training leave the event loop alone, does memory stay flat, and what does it cost to watch?
//
//   npm run bench:loop [-- --steps 1000]
//
// Trains a small GPT-2 with the Trainer and prints the event loop's delay (how late a 1 ms timer fires), the Node heap
// after garbage collection every tenth of the run, and the resident memory. Then it trains again, watched by everything there
// is (metrics.jsonl, TensorBoard, a hook, the progress line, the dashboard with an open page), and prints how long each step
// waits for them. Writes bench/results/training-loop.json.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { readDemoTexts } from '../dist/cli/demo-text.js';
import {
  BlockDataset,
  BufferedShuffleDataset,
  DataLoader,
  GPT2,
  Progress,
  recorded,
  Tokenizer,
  Trainer,
  TrainerControl,
} from '../dist/index.js';
import { LiveRun } from '../dist/report/dashboard/live-run.js';
import { Dashboard } from '../dist/report/dashboard/server.js';

const { values } = parseArgs({ options: { steps: { type: 'string', default: '1000' } } });
const steps = Number(values.steps);
const root = fileURLToPath(new URL('..', import.meta.url));

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');
const mebibytes = (bytes) => bytes / 2 ** 20;

const tokenizer = await Tokenizer.fromPretrained(join(root, 'demo', 'tokenizer'));
const { train } = readDemoTexts();
const dataset = BlockDataset.fromTexts(train, { tokenizer, blockSize: 64 });
const out = await mkdtemp(join(tmpdir(), 'kotodama-bench-'));

async function makeTrainer(name, options) {
  const shuffled = new BufferedShuffleDataset(dataset, { bufferSize: 100, seed: 0 });
  const train = new DataLoader(shuffled, { batchSize: 12, prefetchFactor: 10, numWorkers: 1 });
  const model = await GPT2.create(
    { vocabSize: tokenizer.vocabSize, nLayer: 4, nHead: 4, nEmbd: 128, nPositions: 64 },
    { device: 'cpu' },
  );
  const trainer = new Trainer({ model, tokenizer, train, out: join(out, name), saveEvery: 0, ...options });
  return { model, trainer };
}

const { model, trainer } = await makeTrainer('run', { maxSteps: steps });

const delay = monitorEventLoopDelay({ resolution: 1 });
const samples = [];
try {
  for await (const event of trainer.run()) {
    if (event.type !== 'step') continue;
    if (event.step === 10) delay.enable();
    if (event.step % Math.max(1, Math.floor(steps / 10)) === 0) {
      delay.disable();
      collectGarbage();
      const { heapUsed, rss } = process.memoryUsage();
      samples.push({ step: event.step, heapMiB: mebibytes(heapUsed), rssMiB: mebibytes(rss), loss: event.loss });
      delay.enable();
    }
  }
} finally {
  delay.disable();
  await model.dispose();
}

/** Passes events on, and notes how many milliseconds pass until the next one is asked for: the trainer waits for that. */
async function* timed(events, waits) {
  for await (const event of events) {
    const begun = performance.now();
    yield event;
    if (event.type === 'step') waits.push(performance.now() - begun);
  }
}

/** A run that everything watches: milliseconds that it waits for them after a step, and milliseconds of its steps. */
async function watch() {
  const { model, trainer } = await makeTrainer('watched', { maxSteps: Math.max(50, steps / 2), evalEvery: 0 });
  const control = new TrainerControl();
  const dashboard = await Dashboard.start({ port: 0, onCommand: (command) => control.send(command) });
  const run = new LiveRun('run', 'run');
  dashboard.add(run);
  const page = await fetch(`${dashboard.url}events`);
  const reading = page.body?.pipeTo(new WritableStream());
  const progress = new Progress({ isTTY: true, columns: 120, write: () => true }, { unicode: true });
  const waits = [];
  const times = [];
  const events = timed(trainer.run({ control, onProgress: (far) => progress.activity(far) }), waits);
  for await (const event of recorded(events, trainer.out, { tensorboard: true, onEvent: () => {} })) {
    progress.show(event);
    run.add(event);
    if (event.type === 'step') times.push(1000 * event.stepSeconds);
  }
  await dashboard.close();
  await reading;
  await model.dispose();
  return { waitMs: spread(waits.slice(10)), stepMs: spread(times.slice(10)) };
}

function spread(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  return { mean: values.reduce((sum, value) => sum + value, 0) / values.length, median: at(0.5), p99: at(0.99) };
}

const watching = await watch();
await rm(out, { recursive: true, force: true });

const result = {
  date: new Date().toISOString(),
  machine: cpus()[0]?.model ?? 'unknown',
  node: process.version,
  steps,
  delayMs: { mean: delay.mean / 1e6, p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 },
  samples,
  watching,
};
console.log(`${result.machine}, Node ${result.node}, ${steps} steps`);
console.log('  step   heap MiB    rss MiB     loss');
for (const { step, heapMiB, rssMiB, loss } of samples) {
  console.log(
    `${String(step).padStart(6)} ${heapMiB.toFixed(2).padStart(10)} ${rssMiB.toFixed(1).padStart(10)} ${loss.toFixed(4).padStart(8)}`,
  );
}
const { mean, p99, max } = result.delayMs;
console.log(`event loop delay: mean ${mean.toFixed(2)} ms, 99 % ${p99.toFixed(2)} ms, longest ${max.toFixed(2)} ms`);
const { waitMs, stepMs } = watching;
console.log(
  `watched by everything: a step waits ${waitMs.mean.toFixed(3)} ms for it (median ${waitMs.median.toFixed(3)}, ` +
    `99 % ${waitMs.p99.toFixed(3)}), and takes ${stepMs.median.toFixed(1)} ms: ` +
    `${((100 * waitMs.mean) / stepMs.mean).toFixed(2)} %`,
);
await mkdir(join(root, 'bench', 'results'), { recursive: true });
await writeFile(join(root, 'bench', 'results', 'training-loop.json'), `${JSON.stringify(result, null, 2)}\n`);
