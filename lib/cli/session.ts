import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { KotodamaError, messageOf } from '../errors.js';
import { DASHBOARD_PORT } from '../report/dashboard/address.js';
import { LiveRun } from '../report/dashboard/live-run.js';
import { Dashboard } from '../report/dashboard/server.js';
import { readMetrics } from '../report/metrics.js';
import { Progress } from '../report/progress.js';
import { recorded, TENSORBOARD_FOLDER } from '../report/record.js';
import { bestCheckpoint } from '../train/checkpoint.js';
import { TrainerControl } from '../train/control.js';
import type { EndEvent, TrainEvent } from '../train/events.js';
import { METRICS_FILE } from '../train/run-folder.js';
import type { Trainer } from '../train/trainer.js';
import { catchInterrupt, isReaderGone } from './interrupt.js';
import { shellWord } from './shell.js';

/** How a person watches a run. */
export interface SessionOptions {
  /** Events as JSON lines on stdout instead of a progress line. */
  json: boolean;
  tensorboard?: boolean;
  /** Port of the dashboard. */
  dashboard?: number;
  dashboardHost?: string;
}

/**
 * Runs a trainer before a person: shows its events, records them in the run's folder, and lets Ctrl-C finish the step and
 * save.
 */
export async function runTrainer(trainer: Trainer, options: SessionOptions, hook?: Hook): Promise<EndEvent> {
  const progress = new Progress(process.stderr);
  const control = new TrainerControl();
  const dashboard = await openDashboard(trainer, control, options);
  const interrupt = catchInterrupt(() => {
    progress.end();
    process.stderr.write('finishing the step and saving; once more stops at once\n');
  });
  let lost = false;
  // A disk that is full ends no run: metrics.jsonl has the events, too.
  const onLostOutput = (error: Error) => {
    if (!lost) process.stderr.write(`stdout can no longer be written (${error.message})\n`);
    lost = true;
    if (isReaderGone(error)) interrupt.interrupt();
  };
  process.stdout.on('error', onLostOutput);
  let end: EndEvent | undefined;
  try {
    const run = trainer.run({
      ...{ signal: interrupt.signal, control },
      onProgress: (far) => (options.json ? undefined : progress.activity(far)),
    });
    const how = { tensorboard: options.tensorboard === true, onEvent: hook?.onEvent, signal: interrupt.signal };
    for await (const event of recorded(run, trainer.out, how)) {
      if (event.type === 'start') {
        // A resumed run goes on with its past.
        for await (const old of readMetrics(join(trainer.out, METRICS_FILE))) {
          progress.recall(old);
          dashboard?.run.add(old);
        }
      }
      if (options.json) process.stdout.write(`${JSON.stringify(event)}\n`);
      else progress.show(event);
      dashboard?.run.add(event);
      if (event.type === 'end') end = event;
    }
    if (!options.json && end !== undefined) process.stderr.write(await whereElse(trainer.out, end, options));
  } finally {
    progress.end();
    interrupt[Symbol.dispose]();
    process.stdout.off('error', onLostOutput);
    await dashboard?.server.close();
    if (hook?.isWaiting) exitSoon();
  }
  return end as EndEvent;
}

/** The folder of the model with the smallest validation loss, where that is not the newest one. */
export async function bestModel(out: string, { step, best }: EndEvent): Promise<string | undefined> {
  return best === null || best.step === step ? undefined : bestCheckpoint(out, best.step);
}

/** What the summary's own words leave out. */
async function whereElse(out: string, end: EndEvent, { tensorboard }: SessionOptions): Promise<string> {
  const best = await bestModel(out, end);
  const lines = [
    best === undefined ? '' : `the best model: ${best}`,
    tensorboard ? `TensorBoard: tensorboard --logdir ${shellWord(join(out, TENSORBOARD_FOLDER))}` : '',
  ];
  return lines.map((line) => (line === '' ? '' : `${line}\n`)).join('');
}

async function openDashboard(
  { out }: Trainer,
  control: TrainerControl,
  { dashboard, dashboardHost: host }: SessionOptions,
): Promise<{ server: Dashboard; run: LiveRun } | undefined> {
  if (dashboard === undefined) return undefined;
  // The usual port may be taken by another run.
  const port = dashboard === DASHBOARD_PORT ? undefined : dashboard;
  const server = await Dashboard.start({ port, host, onCommand: (command) => control.send(command) });
  process.stderr.write(`dashboard: ${server.url}\n`);
  const run = new LiveRun(out, out);
  server.add(run);
  return { server, run };
}

/** Ends the process once it has its exit code, whatever a hook still waits for. */
function exitSoon(): void {
  setInterval(() => {
    if (process.exitCode !== undefined) process.exit();
  }, 100).unref();
}

/** The function of `--on-event`. */
export class Hook {
  private waiting = 0;

  private constructor(private readonly take: (event: TrainEvent) => unknown) {}

  /** @throws KotodamaError `ERR_OPTIONS` when the module cannot be used. */
  static async load(path: string): Promise<Hook> {
    let take: unknown;
    try {
      take = ((await import(pathToFileURL(resolve(path)).href)) as { default?: unknown }).default;
    } catch (cause) {
      throw new KotodamaError('ERR_OPTIONS', `--on-event ${path} could not be loaded (${messageOf(cause)})`, { cause });
    }
    if (typeof take === 'function') return new Hook(take as (event: TrainEvent) => unknown);
    throw new KotodamaError('ERR_OPTIONS', `--on-event ${path}`, {
      expected: 'a module whose default export is a function',
      received: typeof take,
    });
  }

  /** Whether a promise of it is open. */
  get isWaiting(): boolean {
    return this.waiting > 0;
  }

  readonly onEvent = (event: TrainEvent): unknown => {
    const result = this.take(event);
    if (result instanceof Promise) {
      this.waiting++;
      const settled = () => {
        this.waiting--;
      };
      result.then(settled, settled);
    }
    return result;
  };
}
