import { findRuns } from '../find-runs.js';
import { LiveRun } from './live-run.js';
import { RunTail } from './run-tail.js';
import type { Dashboard } from './server.js';

/** Milliseconds between two looks at the files, and rounds between two looks for new runs. */
const POLL_EVERY = 500;
const SEARCH_EVERY = 6;

/**
 * Shows the runs below some folders, also those that begin later, until `signal` aborts.
 *
 * @param onUnreadable called when a run can no longer be read; the others are watched on, and it is tried again.
 */
export async function watchRuns(
  dashboard: Dashboard,
  paths: readonly string[],
  signal: AbortSignal,
  onUnreadable: (folder: string, error: unknown) => void = () => {},
): Promise<void> {
  const tails = new Map<string, RunTail>();
  const unreadable = new Set<string>();
  for (let round = 0; !signal.aborted; round++) {
    if (round % SEARCH_EVERY === 0) {
      for (const folder of await findRuns(paths)) {
        if (tails.has(folder)) continue;
        const run = new LiveRun(folder, folder);
        tails.set(folder, new RunTail(folder, run));
        dashboard.add(run);
      }
    }
    for (const [folder, tail] of tails) {
      try {
        await tail.poll();
        unreadable.delete(folder);
      } catch (error) {
        if (!unreadable.has(folder)) onUnreadable(folder, error);
        unreadable.add(folder);
      }
    }
    await pause(signal);
  }
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, POLL_EVERY);
    signal.addEventListener('abort', done);
  });
}
