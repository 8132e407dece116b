// Does training leave the event loop alone, and does memory stay flat?
//
//   npm run bench:loop [-- --steps 1000]
//
// Trains a small GPT-2 with the Trainer and prints the event loop's delay (how late a 1 ms timer fires), the Node heap
// after garbage collection every tenth of the run, and the resident memory. Writes bench/results/training-loop.json.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { readDemoTexts } from '../dist/cli/demo-text.js';
import { BlockDataset, BufferedShuffleDataset, DataLoader, GPT2, Tokenizer, Trainer } from '../dist/index.js';

const { values } = parseArgs({ options: { steps: { type: 'string', default: '1000' } } });
const steps = Number(values.steps);
const root = fileURLToPath(new URL('..', import.meta.url));

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');
const mebibytes = (bytes) => bytes / 2 ** 20;

const tokenizer = await Tokenizer.fromPretrained(join(root, 'demo', 'tokenizer'));
const { train } = readDemoTexts();
const dataset = BlockDataset.fromTexts(train, { tokenizer, blockSize: 64 });
const loader = new DataLoader(new BufferedShuffleDataset(dataset, { bufferSize: 100, seed: 0 }), {
  batchSize: 12,
  prefetchFactor: 10,
  numWorkers: 1,
});
const model = await GPT2.create(
  { vocabSize: tokenizer.vocabSize, nLayer: 4, nHead: 4, nEmbd: 128, nPositions: 64 },
  { device: 'cpu' },
);
const out = await mkdtemp(join(tmpdir(), 'kotodama-bench-'));
const trainer = new Trainer({ model, tokenizer, train: loader, out: join(out, 'run'), maxSteps: steps, saveEvery: 0 });

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
  await rm(out, { recursive: true, force: true });
}

const result = {
  machine: cpus()[0]?.model ?? 'unknown',
  node: process.version,
  steps,
  delayMs: { mean: delay.mean / 1e6, p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 },
  samples,
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
await mkdir(join(root, 'bench', 'results'), { recursive: true });
await writeFile(join(root, 'bench', 'results', 'training-loop.json'), `${JSON.stringify(result, null, 2)}\n`);
