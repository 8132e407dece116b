import { join } from 'node:path';
import { messageOf } from '../errors.js';
import { writeTextFile } from '../files.js';
import { afterStep } from '../train/checkpoint.js';
import type { StartEvent, TrainEvent } from '../train/events.js';
import { METRICS_FILE, REPORT_FILE } from '../train/run-folder.js';
import { isIterable, OptionReader } from '../validate.js';
import { MetricsLog, readMetrics } from './metrics.js';
import { reportPage } from './report.js';
import { RunRecord } from './run-record.js';
import { TensorBoardLog } from './tensorboard/event-log.js';

/** The folder of a run's event files. */
export const TENSORBOARD_FOLDER = 'tensorboard';

/** What else becomes of a run's events. */
export interface RecordOptions {
  /** Writes event files for TensorBoard into the folder `tensorboard` of the run [false]. */
  tensorboard?: boolean | undefined;
  /**
   * Called with each event. Training waits for none of its promises; the end of the run does, for at most 10 seconds. An error,
   * or a promise that is open then, becomes a warning of the run.
   */
  onEvent?: ((event: TrainEvent) => unknown) | undefined;
  /** Ends the wait for promises of `onEvent` when it aborts then. */
  signal?: AbortSignal | undefined;
}

/** Milliseconds that the end of a run waits for a hook. */
const HOOK_PATIENCE = 10_000;

/** Something that takes a run's events. */
interface Sink {
  write(event: TrainEvent): unknown;
  close?(): Promise<void>;
}

/**
 * Passes a run's events on, and keeps them in its folder: each one in `metrics.jsonl`, and all of them as `report.html`
 * at every checkpoint and at the end. A disk or a hook that refuses does not end the run: a warning follows the event, and
 * the last one where something is still missing then.
 *
 * @param events as `trainer.run()` gives them
 * @param out the run's folder, `trainer.out`
 * @throws KotodamaError `ERR_OPTIONS` when an argument is not what it should be, and what `events` throws
 */
export async function* recorded(
  events: AsyncIterable<TrainEvent>,
  out: string,
  options: RecordOptions = {},
): AsyncGenerator<TrainEvent, void, void> {
  checkArguments(events, out, options);
  const record = new RunRecord();
  const sinks: Sink[] = [];
  /** Those that refused the last event: once is enough while it lasts. */
  const failing = new Set<Sink>();
  const warning = (step: number, message: string): TrainEvent => ({ type: 'warning', step, code: 'ERR_IO', message });
  let step = 0;
  try {
    for await (const event of events) {
      step = event.step;
      if (event.type === 'start') await openSinks(sinks, record, event, out, options);
      record.add(event);
      const problems: string[] = [];
      for (const sink of sinks) {
        try {
          // Waiting for nothing still costs a turn of the event loop.
          const writing = sink.write(event);
          if (writing !== undefined) await writing;
          failing.delete(sink);
        } catch (error) {
          if (!failing.has(sink)) problems.push(messageOf(error));
          failing.add(sink);
        }
      }
      yield event;
      for (const problem of problems) yield warning(step, `the run could not be recorded in ${out} (${problem})`);
    }
    const problems = await closeAll(sinks);
    if (problems.length > 0) yield warning(step, `not all of the run is recorded in ${out} (${problems.join('; ')})`);
  } finally {
    // Where the run failed, its own error is the one to tell.
    await closeAll(sinks);
  }
}

function checkArguments(events: unknown, out: unknown, options: RecordOptions): void {
  const reader = new OptionReader(options);
  reader.onlyKnown(['tensorboard', 'onEvent', 'signal']);
  reader.boolean('tensorboard', false);
  reader.signal('signal');
  const { onEvent } = reader.values;
  if (onEvent !== undefined && typeof onEvent !== 'function') reader.problem('onEvent', 'a function', onEvent);
  const hint = 'write recorded(trainer.run(), trainer.out)';
  if (!isIterable(events)) reader.problem('events', 'the events of a run', events, hint);
  if (typeof out !== 'string' || out === '') reader.problem('out', "a path, the run's folder", out, hint);
  reader.finish('The run cannot be recorded so');
}

/** Closes sinks and forgets them; gives what they refused with. */
async function closeAll(sinks: Sink[]): Promise<string[]> {
  const problems = new Set<string>();
  for (const sink of sinks.splice(0)) {
    try {
      await sink.close?.();
    } catch (error) {
      problems.add(messageOf(error));
    }
  }
  return [...problems];
}

/** Opens what a run that stands at the step of its start is recorded in, and reads what is known of it. */
async function openSinks(
  sinks: Sink[],
  record: RunRecord,
  { step, resumedFrom }: StartEvent,
  out: string,
  { tensorboard, onEvent, signal }: RecordOptions,
): Promise<void> {
  const path = join(out, METRICS_FILE);
  const { anew, skipped } = resumedFrom === null ? {} : await afterStep(resumedFrom);
  sinks.push(await MetricsLog.open(path, step, anew, skipped));
  for await (const old of readMetrics(path)) record.add(old);
  sinks.push({
    write: ({ type }) =>
      type === 'checkpoint' || type === 'end'
        ? writeTextFile(join(out, REPORT_FILE), reportPage([{ name: record.now.start?.out ?? out, record }]))
        : undefined,
  });
  if (tensorboard) sinks.push(await TensorBoardLog.open(join(out, TENSORBOARD_FOLDER), step));
  if (onEvent !== undefined) sinks.push(new Hook(onEvent, signal));
}

/** A function of the caller's that takes events. */
class Hook implements Sink {
  private readonly running = new Set<Promise<unknown>>();
  private refused: unknown;

  constructor(
    private readonly onEvent: (event: TrainEvent) => unknown,
    private readonly signal: AbortSignal | undefined,
  ) {}

  write(event: TrainEvent): void {
    const result = this.onEvent(event);
    if (result instanceof Promise) this.watch(result);
    this.check();
  }

  async close(): Promise<void> {
    await this.settle();
    this.check();
    if (this.running.size > 0) throw new Error('onEvent has not finished');
  }

  /** Waits for what is running, but not for ever. */
  private settle(): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.signal?.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, HOOK_PATIENCE);
      this.signal?.addEventListener('abort', end);
      Promise.all(this.running).then(end);
    });
  }

  private check(): void {
    if (this.refused === undefined) return;
    const error = this.refused;
    this.refused = undefined;
    throw new Error(`onEvent: ${messageOf(error)}`);
  }

  private watch(result: Promise<unknown>): void {
    const settled = result
      .catch((error: unknown) => {
        this.refused = error ?? new Error('it failed');
      })
      .finally(() => this.running.delete(settled));
    this.running.add(settled);
  }
}
