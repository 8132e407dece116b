import { join } from 'node:path';
import { readMetrics } from '../report/metrics.js';
import type { TrainEvent } from '../train/events.js';
import { METRICS_FILE } from '../train/run-folder.js';

/** Damaged lines that are named. */
const NAMED = 5;

/** The events of a run's folder; lines that are none are told on stderr. */
export async function* readRunEvents(folder: string): AsyncGenerator<TrainEvent, void, void> {
  const path = join(folder, METRICS_FILE);
  const damaged: number[] = [];
  yield* readMetrics(path, (line) => damaged.push(line));
  if (damaged.length === 0) return;
  const more = damaged.length > NAMED ? ` and ${damaged.length - NAMED} more` : '';
  const lines = `${damaged.length === 1 ? 'line' : 'lines'} ${damaged.slice(0, NAMED).join(', ')}${more}`;
  process.stderr.write(`warning: ${path}, ${lines}: no event of a run, left out\n`);
}
