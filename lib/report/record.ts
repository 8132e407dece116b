import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../errors.js';
import type { TrainEvent } from '../train/events.js';
import { MetricsLog, readMetrics } from './metrics.js';
import { Report } from './report.js';

/**
 * Passes a run's events on, and keeps them in its folder: each one in `metrics.jsonl`, and all of them as `report.html`
 * at every checkpoint and at the end. A disk that refuses does not end the run: a warning follows the event.
 */
export async function* recorded(
  events: AsyncIterable<TrainEvent>,
  out: string,
): AsyncGenerator<TrainEvent, void, void> {
  const path = join(out, 'metrics.jsonl');
  const report = new Report();
  let log: MetricsLog | undefined;
  let failing = false;
  try {
    for await (const event of events) {
      if (event.type === 'start') {
        log = await MetricsLog.open(path, event.step);
        for await (const old of readMetrics(path)) report.add(old);
      }
      report.add(event);
      let problem: string | undefined;
      try {
        await log?.write(event);
        if (event.type === 'checkpoint' || event.type === 'end')
          await writeFile(join(out, 'report.html'), report.html());
      } catch (error) {
        problem = `the run could not be recorded in ${out} (${messageOf(error)})`;
      }
      yield event;
      // Once is enough while it lasts.
      if (problem !== undefined && !failing)
        yield { type: 'warning', step: event.step, code: 'ERR_IO', message: problem };
      failing = problem !== undefined;
    }
  } finally {
    await log?.close();
  }
}
