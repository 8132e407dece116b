// Runs every CUDA test on this machine's own GPU: npm run test:cuda [-- TAP ARGUMENTS]
//
// The same tests run on the simulator in `npm test`. Without Node the C++ programs alone: see test/cuda/CMakeLists.txt.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../dist/native.js';

function fail(message) {
  process.stderr.write(`test:cuda: ${message}\n`);
  process.exit(1);
}

if (process.env.KOTODAMA_CUDA_DRIVER) {
  fail(
    `KOTODAMA_CUDA_DRIVER names ${process.env.KOTODAMA_CUDA_DRIVER}; unset it, so that the machine's own driver is used ` +
      '(npm test runs the same tests on the simulator)',
  );
}
const problem = native().cudaProblem();
if (problem !== null)
  fail(`there is no CUDA device to test on: ${problem} (npm test runs the same tests on the simulator)`);

const folder = join('test', 'cuda');
const files = readdirSync(folder).filter((name) => name.endsWith('.test.ts'));
const tap = spawnSync(
  'npx',
  ['tap', '--disable-coverage', '--jobs=1', ...process.argv.slice(2), ...files.map((name) => join(folder, name))],
  { stdio: 'inherit', env: { ...process.env, KOTODAMA_TEST_DEVICE: 'real' } },
);
if (tap.error) throw tap.error;
process.exitCode = tap.status ?? 1;
