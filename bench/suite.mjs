// @ts-check
// What the CPU engine achieves on this machine, beside what the machine can do and beside PyTorch, TensorFlow.js, OpenBLAS
// and oneDNN where they are found.
//
//   npm run bench [-- --quick] [-- --threads 2] [-- --without-operations]
//
// Prints tables and writes them to bench/results/cpu.md and .json (with --quick to cpu-quick.*, which are not kept). PyTorch
// is taken from the Python that KOTODAMA_BENCH_PYTHON names (an error where that has none), else from python3 if it has it;
// TensorFlow.js from the folder that KOTODAMA_BENCH_TFJS names, after `npm install @tensorflow/tfjs
// @tensorflow/tfjs-backend-wasm` there, for the small model alone; the libraries from their -dev packages. --quick takes
// less than a minute on two idle cores, once the C++ benches are built: the small shapes, and beside them PyTorch tuned,
// not compiled. Figures are medians; everything that is compared runs in turns. A machine on which nothing else runs is
// needed for figures that are worth keeping: the load is noted beside each.

import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { bytesOfToken, flopsOfToken, GPT2_124M, SMALL, TINY } from './suite/arithmetic.mjs';
import { findTorch, jemalloc, tensorflow, torch } from './suite/contenders.mjs';
import { measureHop } from './suite/hop.mjs';
import { describeMachine, load } from './suite/machine.mjs';
import { buildPrograms, measureNativeStep, measureOperations } from './suite/programs.mjs';
import { median } from './suite/statistics.mjs';
import { generationTable, operationsTable, partsTable, peaksLine, trainingTable } from './suite/table.mjs';
import { ALONE, measureGeneration, measureTraining } from './suite/training.mjs';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    threads: { type: 'string', default: '2' },
    'without-operations': { type: 'boolean', default: false },
  },
});
const { quick } = values;
const threads = Number(values.threads);
if (!Number.isInteger(threads) || threads < 1) {
  throw new Error(`--threads: expected a whole number from 1, received ${values.threads}`);
}
const python = findTorch();
const begin = performance.now();
/** @type {string[]} */
const lines = [];
const say = (/** @type {string} */ text) => {
  lines.push(text);
  console.log(text);
};
const elapsed = () => `${((performance.now() - begin) / 1000).toFixed(0)} s, load ${load().toFixed(1)}`;
const progress = (/** @type {string} */ text) => console.error(`[${elapsed()}] ${text}`);

const machine = describeMachine();
say(
  `${machine.date}, ${machine.processor} (${machine.cores} cores, ${machine.vectors.join(' ')}), Node ${machine.node}\n`,
);

progress('building the C++ benches');
buildPrograms();

let peer;
let compiles = false;
if (python) {
  const asking = torch(python, false, threads);
  ({ compiles = false, ...peer } = await asking.ask({ do: 'describe', compile: !quick }));
  await asking.end();
  peer.jemalloc = jemalloc !== undefined;
}
say(
  peer
    ? `PyTorch ${peer.torch}, Python ${peer.python}, tuned ${peer.jemalloc ? 'with' : 'without'} jemalloc` +
        `${compiles ? ', torch.compile works' : ''}`
    : 'no PyTorch found',
);

let tensorflowPeer;
if (process.env.KOTODAMA_BENCH_TFJS) {
  const asking = tensorflow();
  tensorflowPeer = await asking.ask({ do: 'describe' });
  await asking.end();
  say(`TensorFlow.js ${tensorflowPeer.tensorflow}, backend ${tensorflowPeer.backend}, one thread`);
}

progress('peaks and operations');
const filter = quick ? 'gemm f32 256 dX' : values['without-operations'] ? 'no such operation' : '';
const runs = (quick ? [threads] : [...new Set([1, threads])]).map((count) => ({
  threads: count,
  ...measureOperations(count, filter, quick ? 0.02 : 0.3, machine.vectors),
}));
say('\n## Peaks, measured here\n');
for (const run of runs) say(peaksLine({ threads: run.threads, ...run.peaks }));
for (const { threads: count, operations, peaks } of runs) {
  if (operations.length > 0) say(`\n## Operations, ${operationsTable(operations, count, peaks.readBytes)}`);
}
const { peaks } = /** @type {typeof runs[number]} */ (runs.at(-1));
/** On a shared machine the beginning may be a busy moment: the best of several counts. */
const measurePeaksAgain = () => {
  if (quick) return;
  progress('peaks again');
  for (const run of runs) {
    const now = measureOperations(run.threads, 'no such operation', 0, machine.vectors).peaks;
    for (const key of /** @type {const} */ (['f32', 'bf16', 'readBytes'])) {
      run.peaks[key] = Math.max(run.peaks[key], now[key]);
    }
  }
};
const onePeaks = runs[0]?.threads === 1 ? runs[0].peaks : undefined;

/** @param {string} precision @param {number} on */
const peakOf = (precision, on) => {
  const of = on === threads ? peaks : onePeaks;
  const rate = of?.[precision === 'bf16' ? 'bf16' : 'f32'];
  return rate ?? (peaks[precision === 'bf16' ? 'bf16' : 'f32'] * on) / threads;
};

/**
 * The least that a step of GPT-2 124M takes: its arithmetic at the peak, then clipping and AdamW at the best that was
 * measured above. Smaller models are updated in the caches.
 *
 * @param {number} flops @param {string} precision @param {number} on
 */
const leastSeconds = (flops, precision, on) => {
  const operations = runs.find((run) => run.threads === on)?.operations ?? [];
  const bestOf = (/** @type {string} */ wanted) => operations.find(({ name }) => name === wanted)?.best;
  const norm = bestOf('global norm 124M');
  const update = bestOf(precision === 'bf16' ? 'adamw 124M + bf16 copy' : 'adamw 124M');
  return norm && update && flops / peakOf(precision, on) + norm + update;
};

const parts = [];
for (const precision of ['fp32', 'bf16']) {
  for (const [model, batch, block, name] of /** @type {const} */ ([
    [GPT2_124M, 3, 1024, '124M, B=3, T=1024'],
    [GPT2_124M, 4, 64, '124M, B=4, T=64'],
    [SMALL, 12, 64, 'small, B=12, T=64'],
  ])) {
    if (quick && (block === 1024 || (model === GPT2_124M && precision === 'fp32'))) continue;
    progress(`parts of the step: ${name} ${precision}`);
    const step = measureNativeStep(model, { threads: 1, precision, batch, block, seconds: quick ? 0 : 3 });
    parts.push({ name: `${name} ${precision}`, ...step });
  }
}
say(`\n## Where a step spends its time\n\n${partsTable(parts)}`);

const cases = [];
for (const precision of ['fp32', 'bf16']) {
  measurePeaksAgain();
  for (const [model, batch, block, name, rounds, steps] of /** @type {const} */ ([
    [GPT2_124M, 3, 1024, 'GPT-2 124M, B=3, T=1024', 3, 1],
    [GPT2_124M, 4, 64, 'GPT-2 124M, B=4, T=64', 6, 1],
    [SMALL, 12, 64, '4 layers, 128 wide, B=12, T=64', 10, quick ? 5 : 20],
  ])) {
    if (quick && block === 1024) continue;
    progress(`training: ${name} ${precision}`);
    /** @type {import('./suite/training.mjs').Case} */
    const what = {
      name,
      model,
      batch,
      block,
      precision,
      threads,
      rounds: quick ? 1 : rounds,
      steps,
      compile: compiles,
      beside: quick ? (model === GPT2_124M ? 'nobody' : 'the best') : 'all',
      tensorflow: tensorflowPeer !== undefined && model === SMALL && precision === 'fp32',
    };
    const timings = (await measureTraining(what, python)).map((timing) => {
      const tokensPerSecond = (batch * block) / timing.median;
      const flops = batch * block * flopsOfToken(model, block);
      const share = flops / timing.median / peakOf(precision, timing.threads);
      const least = model === GPT2_124M ? leastSeconds(flops, precision, timing.threads) : undefined;
      return { ...timing, tokensPerSecond, share, shareOfLimit: least && least / timing.median };
    });
    const [ours, ...others] = timings;
    const single = others.find(({ who }) => who === ALONE);
    const scaling = ours && single ? single.median / ours.median : undefined;
    cases.push({ name: `${name}, ${precision}`, batch, block, precision, threads, scaling, timings });
  }
}
say(`\n## Training steps, threads: ${threads}\n\n${trainingTable(cases)}`);
if (cases.some(({ timings }) => timings.some(({ shareOfLimit }) => shareOfLimit))) {
  say(
    '\nOf limit: the arithmetic at the peak, then our clipping and AdamW at their best above, over the time of the step.\n',
  );
}
for (const { name, scaling } of cases)
  if (scaling) say(`- ${name}: ${scaling.toFixed(2)} times as fast on ${threads} threads as on one`);

measurePeaksAgain();
const generations = [];
for (const precision of /** @type {const} */ (['fp32', 'bf16'])) {
  progress(`generation, ${precision}`);
  const what = { model: GPT2_124M, precision, threads, prompt: 16, tokens: quick ? 16 : 64, rounds: quick ? 1 : 3 };
  const timings = (await measureGeneration(what, quick ? undefined : python)).map((timing) => {
    const tokensPerSecond = 1 / timing.median;
    return {
      ...timing,
      tokensPerSecond,
      share: (tokensPerSecond * bytesOfToken(GPT2_124M, timing.int8 ? 'int8' : precision)) / peaks.readBytes,
    };
  });
  generations.push({ precision, timings });
}
say(`\n## Generation, GPT-2 124M, one text with the key-value cache\n\n${generationTable(generations)}`);

if (!quick) {
  say('\n## Peaks, the best until here, which the shares above were taken of as they came\n');
  for (const run of runs) say(peaksLine({ threads: run.threads, ...run.peaks }));
}

progress('JavaScript');
// One thread: it waits for nobody, so that the difference is what JavaScript and the binding take.
const how = { batch: 1, block: 8, precision: 'fp32', threads: 1 };
// In turns, since the machine's speed changes from one second to the next by more than the difference.
const rounds = [];
for (let round = 0; round < (quick ? 1 : 5); round++) {
  const native = measureNativeStep(TINY, { ...how, seconds: 0.3 });
  /** @type {import('./suite/training.mjs').Case} */
  const what = { ...how, name: 'tiny', model: TINY, rounds: 1, steps: 2000, compile: false, beside: 'nobody' };
  const [whole] = await measureTraining(what, undefined);
  rounds.push({ whole: whole?.median ?? Number.NaN, native: native.seconds, hop: await measureHop(native.seconds) });
}
const javaScript = {
  wholeSeconds: median(rounds.map(({ whole }) => whole)),
  nativeSeconds: median(rounds.map(({ native }) => native)),
  seconds: median(rounds.map(({ whole, native }) => whole - native)),
  hopSeconds: median(rounds.map(({ hop }) => hop)),
};
say(
  `\nJavaScript and binding: ${(1e6 * javaScript.seconds).toFixed(0)} microseconds per step (one call, as the Trainer makes it), of a step that takes ${(1e6 * javaScript.nativeSeconds).toFixed(0)} without them; a job of Node's own that is as long takes ${(1e6 * javaScript.hopSeconds).toFixed(0)} more on a thread of libuv's pool than in place`,
);

const result = {
  machine,
  peer,
  tensorflow: tensorflowPeer,
  seconds: (performance.now() - begin) / 1000,
  loadAtEnd: load(),
  runs,
  parts,
  cases,
  generations,
  javaScript,
};
const folder = fileURLToPath(new URL('results/', import.meta.url));
await mkdir(folder, { recursive: true });
const name = quick ? 'cpu-quick' : 'cpu';
await writeFile(`${folder}${name}.json`, `${JSON.stringify(result, null, 2)}\n`);
await writeFile(`${folder}${name}.md`, `# The CPU engine: npm run bench\n\n${lines.join('\n')}\n`);
progress('done');
