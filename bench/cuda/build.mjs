// @ts-check
// Builds the programs of this folder, and the simulator.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Runs a program in the repository's root to its end; its output. Throws when it fails.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {Record<string, string>} env added to this process's environment
 */
export function run(command, args, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 1 << 28,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return { stdout, stderr };
}

/**
 * Configures and builds a CMake folder; the path of what was built.
 *
 * @param {string} source
 * @param {string} name of the folder in build/
 * @param {string[]} options
 */
export function build(source, name, options = []) {
  const folder = join(root, 'build', name);
  const { stdout } = run('cmake', ['-S', join(root, source), '-B', folder, '-DCMAKE_BUILD_TYPE=Release', ...options]);
  if (stdout.includes('no nvcc')) {
    throw new Error('there is no nvcc here to compile the kernels: install the CUDA toolkit, or set CUDA_PATH');
  }
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  return folder;
}

/** The simulator's library. */
export function buildSimulator() {
  return join(build('test/gpu-sim', 'gpu-sim'), 'libcuda-sim.so');
}

/** A value that CMake keeps for a build folder. @param {string} folder @param {string} name */
export function cached(folder, name) {
  const cache = readFileSync(join(folder, 'CMakeCache.txt'), 'utf8');
  return new RegExp(`^${name}:\\w+=(.*)$`, 'm').exec(cache)?.[1];
}
