// Saves a checkpoint, and adds to it, on a disk that fails at its n-th call, for n = FIRST to LAST or until no call fails
// any more, and tells what became of it: one JSON line for each n, after one about what an earlier process left. Runs under
// shim.cc.
//
//   node scenario.mjs FOLDER CONTROL MODE ERRNO FIRST LAST

import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '../../dist/model/safetensors.js';
import { amendCheckpoint, newestCheckpoint, removeLeftovers, saveCheckpoint } from '../../dist/train/checkpoint.js';
import { armFor } from './arm.mjs';

const [folder, controlFile, mode, errno, first, last] = process.argv.slice(2);
const arm = armFor(controlFile, mode, errno);
const template = `${folder}-template`;
const out = join(folder, 'run');

function state(step) {
  return {
    ...{ version: 1, step, tokens: step, counters: { step, microStep: step }, batchesPerEpoch: null, loss: 1 },
    ...{ position: { epoch: 1, blocks: step, source: null }, evaluation: { step, loss: step }, options: {} },
    best: null,
    identity: {},
  };
}

async function save(step, keep) {
  const tensor = (name, value) => ({ name, shape: [300], read: () => new Float32Array(300).fill(value) });
  const write = async (where) => {
    await writeSafetensors(join(where, 'model.safetensors'), [tensor('a', step), tensor('b', -step)]);
    await writeSafetensors(join(where, 'optimizer.safetensors'), [tensor('c', step)]);
  };
  return saveCheckpoint(out, state(step), write, keep);
}

async function attempt(n) {
  rmSync(out, { recursive: true, force: true });
  cpSync(template, out, { recursive: true, verbatimSymlinks: true });
  const result = { n };
  arm(n);
  try {
    const { problems } = await save(10, 1);
    await amendCheckpoint(out, { ...state(10), loss: 2 }).catch((error) => problems.push(error));
    result.problems = problems.map(({ code, message }) => `${code} ${message}`);
  } catch (error) {
    result.error = `${error.code} ${error.message}`;
  }
  result.calls = arm(0);
  return inspect(result);
}

/** What whoever resumes now would find. */
async function inspect(result) {
  const { checkpoint, damaged } = await newestCheckpoint(out);
  result.newest = checkpoint?.state.step;
  result.damaged = damaged.length;
  result.loss = checkpoint?.state.loss;
  result.weights = readFileSync(join(out, 'model.safetensors')).readFloatLE(
    8 + headerBytes(join(out, 'model.safetensors')),
  );
  await removeLeftovers(out);
  return result;
}

function tell(result) {
  writeFileSync(1, `${JSON.stringify(result)}\n`);
}

function headerBytes(path) {
  return Number(readFileSync(path).readBigUInt64LE());
}

if (!existsSync(template)) {
  await save(1, 9);
  await save(5, 9);
  cpSync(out, template, { recursive: true, verbatimSymlinks: true });
  rmSync(out, { recursive: true });
}
// What a process that was killed before has left.
if (existsSync(out)) tell(await inspect({}));
for (let n = Number(first); n <= Number(last); n++) {
  const result = await attempt(n);
  tell(result);
  if (result.calls < n) break;
}
