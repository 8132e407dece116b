import { spawnSync } from 'node:child_process';
import { mkdirSync, rmdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Where the simulator is built, relative to the repository's root (the directory that tests run in). */
export const simulatorDirectory = join('build', 'gpu-sim');

/** The stand-in driver, for KOTODAMA_CUDA_DRIVER. */
export const simulatorLibrary = join(process.cwd(), simulatorDirectory, 'libcuda-sim.so');

function run(command: string, args: string[]): void {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
}

/** Builds the simulator unless it is up to date. Test files that run side by side take turns. */
export async function buildSimulator(): Promise<string> {
  mkdirSync('build', { recursive: true });
  const lock = `${simulatorDirectory}.lock`;
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      const age = Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > 300_000) rmdirSync(lock);
      else await sleep(200);
    }
  }
  try {
    run('cmake', ['-S', 'test/gpu-sim', '-B', simulatorDirectory, '-DCMAKE_BUILD_TYPE=Release']);
    run('cmake', ['--build', simulatorDirectory, '--parallel', String(availableParallelism())]);
  } finally {
    rmdirSync(lock);
  }
  return simulatorLibrary;
}
