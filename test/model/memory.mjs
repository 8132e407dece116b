// Measures the memory of a process that trains, or that makes and disposes models; JSON on stdout.
//
//   node --expose-gc memory.mjs steps | cycles | making

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { GPT2, Trainer } from '../../dist/index.js';

const CPU = { device: 'cpu', threads: 1, seed: 1 };

/** Bytes in use after everything that can be collected is. */
async function measure() {
  for (let round = 0; round < 3; round++) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heapUsed, external };
}

/** Waits until no checkpoint is being written: what is written beside the training has buffers of its own until it is done. */
async function written(out) {
  while (readdirSync(join(out, 'checkpoints')).some((name) => name.endsWith('.tmp'))) await passed(5);
}

/** Always the same batch of a shape. */
function batches(batchSize, blockSize, vocabSize) {
  const shape = [batchSize, blockSize];
  const ids = Int32Array.from({ length: batchSize * blockSize }, (_, index) => (7 * index) % vocabSize);
  return {
    batchSize,
    blockSize,
    state: () => null,
    restore() {},
    async *[Symbol.asyncIterator]() {
      for (;;) yield { inputIds: { data: ids.slice(), shape }, labels: { data: ids.slice(), shape } };
    },
  };
}

const tokenizer = {
  ...{ vocabSize: 32, bosTokenId: 0, eosTokenId: undefined, padTokenId: undefined, unkTokenId: 0 },
  encode: (text) => Array.from(text, () => 1),
  decode: (ids) => 'x'.repeat(ids.length),
  fingerprint: 'x',
};

/** 4,000 steps with evaluations, samples and checkpoints in between. */
async function steps() {
  const folder = mkdtempSync(join(tmpdir(), 'kotodama-memory-'));
  const model = await GPT2.create({ vocabSize: 32, nPositions: 8, nEmbd: 16, nLayer: 2, nHead: 2 }, CPU);
  const valid = {
    async *[Symbol.asyncIterator]() {
      for await (const batch of batches(2, 8, 32)) {
        yield batch;
        return;
      }
    },
  };
  const often = { evalEvery: 50, sampleEvery: 50, sampleTokens: 4, saveEvery: 100, keep: 2 };
  const options = { schedule: 'constant', warmupSteps: 0, maxSteps: 4000, ...often };
  const out = join(folder, 'run');
  const trainer = new Trainer({ model, tokenizer, train: batches(2, 8, 32), valid, out, ...options });
  const found = [];
  for await (const event of trainer.run()) {
    if (event.type !== 'step' || event.step % 500 !== 0) continue;
    await written(out);
    found.push(await measure());
  }
  await model.dispose();
  rmSync(folder, { recursive: true });
  return found;
}

/** 50 models of some 14 MB with their training state, one after the other. */
async function cycles() {
  const found = [];
  const source = batches(2, 64, 512)[Symbol.asyncIterator]();
  for (let cycle = 1; cycle <= 50; cycle++) {
    const model = await GPT2.create({ vocabSize: 512, nPositions: 64, nEmbd: 128, nLayer: 4, nHead: 4 }, CPU);
    await model.forwardBackward((await source.next()).value);
    await model.step({ learningRate: 1e-3 });
    for await (const _ of model.generateIds([1], { maxNewTokens: 2 }));
    await model.dispose();
    if (cycle % 10 === 0) found.push(await measure());
  }
  return found;
}

/** The most bytes that the process ever held, before and after a model was made whose parameters are one large tensor. */
async function making() {
  const status = '/proc/self/status';
  const text = () => (existsSync(status) ? readFileSync(status, 'utf8') : '');
  const peak = () => 1024 * Number(/VmHWM:\s+(\d+)/.exec(text())?.[1]);
  const found = [peak()];
  const model = await GPT2.create({ vocabSize: 250_000, nPositions: 16, nEmbd: 256, nLayer: 1, nHead: 1 }, CPU);
  found.push(peak());
  await model.dispose();
  return found;
}

process.stdout.write(JSON.stringify(await { steps, cycles, making }[process.argv[2]]()));
