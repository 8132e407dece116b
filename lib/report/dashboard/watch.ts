import { findRuns } from '../find-runs.js';
import { LiveRun } from './live-run.js';
import { RunTail } from './run-tail.js';
import type { Dashboard } from './server.js';

/** Milliseconds between two looks at the files, and rounds between two looks for new runs. */
const POLL_EVERY = 500;
const SEARCH_EVERY = 6;

/** Shows the runs below some folders, also those that begin later, until `signal` aborts. */
export async function watchRuns(dashboard: Dashboard, paths: readonly string[], signal: AbortSignal): Promise<void> {
  const tails = new Map<string, RunTail>();
  for (let round = 0; !signal.aborted; round++) {
    if (round % SEARCH_EVERY === 0) {
      for (const folder of await findRuns(paths)) {
        if (tails.has(folder)) continue;
        const run = new LiveRun(folder, folder);
        tails.set(folder, new RunTail(folder, run));
        dashboard.add(run);
      }
    }
    for (const tail of tails.values()) await tail.poll();
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
