// How fast the CUDA kernels and a whole training step are on this machine's GPU.
//
//   npm run bench:cuda [-- --batch 16 --repeats 20 --program build/cuda-bench/time]
//
// Times GPT-2 124M in bf16 with the device's events, prints achieved TFLOP/s, GB/s and MFU beside the rooflines that
// `npm run gpu-report` counted, and writes bench/results/gpu-time-DEVICE.md and .json. The simulator has no times and is
// refused; --dry-run goes through the motions there. --program names what was built before, and nothing is built. Without
// Node: see bench/cuda/CMakeLists.txt.
//
// PyTorch's step is timed after ours where it is found with CUDA: in the Python that KOTODAMA_BENCH_PYTHON names (an error
// where that has none), else in python3. Ours is written before that.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from './cuda/build.mjs';
import { devices } from './gpu-report/devices.mjs';
import { match, timeReport } from './gpu-time/compare.mjs';
import { findPeer, timePeers } from './gpu-time/peers.mjs';

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '16' },
    repeats: { type: 'string', default: '20' },
    program: { type: 'string' },
    'dry-run': { type: 'boolean', default: false },
  },
});

/** Machine code for the GPU at hand alone, where nvidia-smi knows it: a shorter build than for all of them. */
function architectures() {
  const { stdout } = spawnSync('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader'], {
    encoding: 'utf8',
  });
  const known = [...new Set((stdout ?? '').match(/^\d+\.\d$/gm)?.map((capability) => capability.replace('.', '')))];
  return known.length > 0 ? known.join(';') : '';
}

const note = (text) => process.stderr.write(`${text}\n`);

function built() {
  note('building');
  return join(build('bench/cuda', 'cuda-bench', [`-DKOTODAMA_CUDA_ARCHITECTURES=${architectures()}`]), 'time');
}

// Before anything that takes long: a wrong name ends it all.
const peer = values['dry-run'] ? undefined : await findPeer();
const program = values.program ? resolve(values.program) : built();
const shape = values['dry-run']
  ? ['--dry-run', '--layers', '1', '--heads', '1', '--width', '64', '--vocab', '500', '--batch', '1', '--block', '64']
  : ['--batch', values.batch, '--repeats', values.repeats];
const { status, stdout, stderr, error } = spawnSync(program, [...shape, '--json'], {
  encoding: 'utf8',
  maxBuffer: 1 << 26,
});
if (error) throw error;
if (status !== 0) {
  process.stderr.write(stderr);
  process.exit(1);
}
const git = spawnSync('git', ['describe', '--always', '--dirty', '--exclude=*'], { encoding: 'utf8' });
const timed = {
  ...JSON.parse(stdout),
  date: new Date().toISOString().slice(0, 10),
  commit: git.status === 0 ? git.stdout.trim() : undefined,
};
if (values['dry-run']) {
  console.log(`${timed.operations.length} operations ran on ${timed.device}; nothing was timed`);
} else {
  const results = fileURLToPath(new URL('results', import.meta.url));
  const counts = join(results, 'gpu-report.json');
  const report = existsSync(counts) ? JSON.parse(readFileSync(counts, 'utf8')) : undefined;
  const name = timed.device.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  mkdirSync(results, { recursive: true });
  const write = (peers) => {
    const text = timeReport(timed, match(timed, report, devices), peers);
    writeFileSync(join(results, `gpu-time-${name}.md`), text);
    writeFileSync(join(results, `gpu-time-${name}.json`), `${JSON.stringify({ ...timed, peers })}\n`);
    return text;
  };
  let text = write();
  if (peer) {
    const { python, ...found } = peer;
    const shape = { batch: timed.batch, block: timed.block, steps: Math.max(1, Number(values.repeats)) };
    text = write({ ...found, entries: await timePeers(peer, shape, note) });
  } else {
    note('no PyTorch with CUDA found');
  }
  console.log(text);
}
