import { mkdirSync, rmdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Seconds after which a lock was left by a process that is gone. */
const STALE = 300;

/** Runs `work` alone among the test files that run side by side and name the same folder, which they build in. */
export function inTurn<T>(folder: string, work: () => T): T {
  mkdirSync(dirname(folder), { recursive: true });
  const lock = `${folder}.lock`;
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      const age = Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > 1000 * STALE) rmdirSync(lock);
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    }
  }
  try {
    return work();
  } finally {
    rmdirSync(lock);
  }
}
