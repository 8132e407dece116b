import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { inTurn } from '../gpu-sim/in-turn.js';

/** The folder of the C++ test programs, relative to the repository's root (the directory that tests run in). */
const folder = join('build', 'cuda-test');

/** Whether the tests use the machine's own driver and GPU: KOTODAMA_TEST_DEVICE=real. */
export const isReal = process.env.KOTODAMA_TEST_DEVICE === 'real';

export interface Result {
  status: number | null;
  output: string;
}

/** Runs a program to its end; `env` is added to this process's environment. */
export function run(command: string, args: string[], env: Record<string, string> = {}): Result {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 1 << 26,
  });
  if (error) throw error;
  return { status, output: stdout + stderr };
}

/** Whether the build finds nvcc: without it there are no kernels to test. */
export function configure(): { hasKernels: boolean } {
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DKOTODAMA_CUDA_ARCHITECTURES=none'];
  const { status, output } = run('cmake', inTurn(folder, ['-S', join('test', 'cuda'), '-B', folder, ...options]));
  if (status !== 0) throw new Error(`the CUDA test programs cannot be configured:\n${output}`);
  return { hasKernels: !output.includes('no nvcc') };
}

/** Builds the test programs, with the kernels as PTX alone. */
export function buildPrograms(): void {
  const build = ['--build', folder, '--parallel', String(availableParallelism())];
  const { status, output } = run('cmake', inTurn(folder, build));
  if (status !== 0) throw new Error(`the CUDA test programs do not build:\n${output}`);
}

/** The path of a test program. */
export function program(name: string): string {
  return join(folder, name);
}
