import { Progress } from '../report/progress.js';
import { recorded } from '../report/record.js';
import type { EndEvent } from '../train/events.js';
import type { Trainer } from '../train/trainer.js';
import { catchInterrupt } from './interrupt.js';

/**
 * Runs a trainer before a person: shows its events, records them in the run's folder, and lets Ctrl-C finish the step and
 * save.
 *
 * @param options.json events as JSON lines on stdout instead.
 */
export async function runTrainer(trainer: Trainer, options: { json: boolean }): Promise<EndEvent> {
  const progress = new Progress(process.stderr);
  const interrupt = catchInterrupt(() => {
    progress.end();
    process.stderr.write('finishing the step and saving; once more stops at once\n');
  });
  let end: EndEvent | undefined;
  try {
    for await (const event of recorded(trainer.run({ signal: interrupt.signal }), trainer.out)) {
      if (options.json) process.stdout.write(`${JSON.stringify(event)}\n`);
      else progress.show(event);
      if (event.type === 'end') end = event;
    }
  } finally {
    progress.end();
    interrupt[Symbol.dispose]();
  }
  return end as EndEvent;
}
