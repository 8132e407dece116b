import { mkdirSync } from 'node:fs';

/**
 * The arguments with which `cmake` runs itself with `args`, alone among the test files that run side by side and name the
 * same folder, which they build in.
 */
export function inTurn(folder: string, args: string[]): string[] {
  mkdirSync(folder, { recursive: true });
  return [`-DFOLDER=${folder}`, '-P', 'test/gpu-sim/in-turn.cmake', '--', ...args];
}
