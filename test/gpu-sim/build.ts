import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { inTurn } from './in-turn.js';

/** Where the simulator is built, relative to the repository's root (the directory that tests run in). */
export const simulatorDirectory = join('build', 'gpu-sim');

/** The stand-in driver, for KOTODAMA_CUDA_DRIVER. */
export const simulatorLibrary = join(process.cwd(), simulatorDirectory, 'libcuda-sim.so');

function run(command: string, args: string[]): void {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
}

/** Builds the simulator unless it is up to date. */
export function buildSimulator(): string {
  const configure = ['-S', 'test/gpu-sim', '-B', simulatorDirectory, '-DCMAKE_BUILD_TYPE=Release'];
  const build = ['--build', simulatorDirectory, '--parallel', String(availableParallelism())];
  for (const args of [configure, build]) run('cmake', inTurn(simulatorDirectory, args));
  return simulatorLibrary;
}
