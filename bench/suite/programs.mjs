// @ts-check
// The C++ benches: built on first use, run for their JSON.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../cuda/build.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = join(root, 'build', 'bench');

/** Brings the C++ benches up to date. */
export function buildPrograms() {
  run('cmake', ['-S', root, '-B', folder, '-DCMAKE_BUILD_TYPE=Release', '-DKOTODAMA_NVCC=OFF']);
  run('cmake', ['--build', folder, '--parallel', '2', '--target', 'cpu_ops_bench', 'cpu_step_bench']);
}

/**
 * What the other libraries need for their best: oneDNN's threads on cores of their own, else some schedulers leave them
 * on one; and OpenBLAS takes its oldest kernels on processors that it does not know.
 *
 * @param {string[]} vectors @returns {Record<string, string>}
 */
function environmentOfRivals(vectors) {
  const bound = { OMP_PROC_BIND: 'true', OMP_PLACES: 'cores' };
  if (!vectors.includes('avx512f') || process.env.OPENBLAS_CORETYPE !== undefined) return bound;
  return { ...bound, OPENBLAS_CORETYPE: 'SKYLAKEX' };
}

/**
 * Peaks of the machine, and every operation whose name contains `filter`.
 *
 * @param {number} threads @param {string} filter @param {number} seconds for each @param {string[]} vectors
 */
export function measureOperations(threads, filter, seconds, vectors) {
  const program = join(folder, 'csrc', 'cpu', 'bench', 'cpu_ops_bench');
  const { stdout } = run(program, [`${threads}`, filter, `${seconds}`, 'json'], environmentOfRivals(vectors));
  const [peaks, ...operations] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  return { peaks, operations };
}

/**
 * A training step without Node: seconds, and those of its parts.
 *
 * @param {import('./arithmetic.mjs').Shape} model
 * @param {{ threads: number, precision: string, batch: number, block: number, seconds: number }} how
 */
export function measureNativeStep(model, { threads, precision, batch, block, seconds }) {
  const program = join(folder, 'bench', 'cpu', 'cpu_step_bench');
  const { nLayer, nEmbd, nHead, vocabSize } = model;
  const args = [threads, precision, batch, block, nLayer, nEmbd, nHead, vocabSize, seconds].map(String);
  return JSON.parse(run(program, args).stdout);
}
