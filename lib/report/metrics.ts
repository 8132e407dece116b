import { createReadStream, existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { ioError } from '../files.js';
import type { TrainEvent } from '../train/events.js';
import { checkPath } from '../validate.js';
import { AppendLog } from './append-log.js';

const NEWLINE = 0x0a;

/** Writes a run's events to a file, one JSON object a line. */
export class MetricsLog {
  private constructor(private readonly log: AppendLog) {}

  /**
   * Opens the file for a run that stands at `step`. A resumed run repeats the steps after its checkpoint, so the lines
   * from there on are cut and no step appears twice.
   *
   * @param anew types of events of that very step that the run repeats, too; what else came after its checkpoint stays.
   * @param skipped updates after that step that the checkpoint knows to be left out: their warnings, of the step after it,
   *   stay. Default 0
   */
  static async open(
    path: string,
    step: number,
    anew: readonly TrainEvent['type'][] = [],
    skipped = 0,
  ): Promise<MetricsLog> {
    const kept = step > 0 && existsSync(path) ? await lengthUntil(path, step, anew, skipped) : 0;
    const file = await open(path, kept > 0 ? 'r+' : 'w');
    await file.truncate(kept);
    return new MetricsLog(new AppendLog(file, kept));
  }

  /**
   * Appends one line. Steps, which are many, do not wait for the disk; whatever else happens does.
   *
   * @throws what the disk refuses with; the line is kept, and written with the next one.
   */
  write(event: TrainEvent): Promise<void> | undefined {
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    try {
      this.log.append(line);
    } catch (error) {
      // What is flushed is tried again at once.
      if (event.type === 'step') throw error;
    }
    return event.type === 'step' ? undefined : this.log.flush();
  }

  async close(): Promise<void> {
    await this.log.close();
  }
}

/**
 * Reads the events of a file. A last line that a crash has cut short is none yet; any other line that is no event is left out.
 *
 * @param onDamaged called with the number of each line that is left out, from 1.
 * @throws KotodamaError `ERR_IO` when the file cannot be read, `ERR_OPTIONS` when `path` is none.
 */
export async function* readMetrics(
  path: string,
  onDamaged: (line: number) => void = () => {},
): AsyncGenerator<TrainEvent, void, void> {
  checkPath('the file of events', path);
  let line = 0;
  for await (const { event } of readLines(path)) {
    line++;
    if (event === undefined) onDamaged(line);
    else yield event;
  }
}

/**
 * Bytes of the lines that a run resumed at `step` keeps: those up to the checkpoint of that step, and what was added to it
 * before that start of the run ended. Of the warnings of updates left out after that step it keeps `skipped`.
 */
async function lengthUntil(
  path: string,
  step: number,
  anew: readonly TrainEvent['type'][],
  skipped: number,
): Promise<number> {
  let kept = 0;
  let saved = false;
  let skips = 0;
  for await (const { event, end } of readLines(path)) {
    if (event === undefined) continue;
    const isSkip = event.type === 'warning' && event.step === step + 1 && skips++ < skipped;
    if ((event.step > step && !isSkip) || (event.step === step && event.type === 'end')) break;
    // A skipped update that is known may have been the only thing that a start has done.
    if (saved && skips >= skipped && (event.type === 'start' || anew.includes(event.type))) break;
    kept = end;
    saved ||= event.step === step && event.type === 'checkpoint';
  }
  return kept;
}

/** Each whole line with the position after it. Not `readline`, which also breaks lines at U+2028. */
async function* readLines(path: string): AsyncGenerator<{ event: TrainEvent | undefined; end: number }, void, void> {
  let rest = Buffer.alloc(0);
  let end = 0;
  for await (const chunk of chunksOf(path)) {
    rest = Buffer.concat([rest, chunk]);
    let start = 0;
    for (let next = rest.indexOf(NEWLINE); next >= 0; next = rest.indexOf(NEWLINE, start)) {
      const event = parseEvent(rest.toString('utf8', start, next));
      end += next + 1 - start;
      start = next + 1;
      yield { event, end };
    }
    rest = rest.subarray(start);
  }
}

/** @throws KotodamaError `ERR_IO` */
async function* chunksOf(path: string): AsyncGenerator<Buffer, void, void> {
  try {
    for await (const chunk of createReadStream(path)) yield chunk as Buffer;
  } catch (cause) {
    throw ioError(cause, `${path} could not be read`);
  }
}

/** What is read of an event without another look, by its type; `device.name` is the name in the device. */
interface Fields {
  numbers?: readonly string[];
  /** Numbers, or null where there is none. */
  optional?: readonly string[];
  texts?: readonly string[];
  objects?: readonly string[];
}

/** What pages, the progress line and a resumed run read: a line without it is damaged. */
const FIELDS: Readonly<Record<string, Fields>> = {
  start: {
    numbers: [
      ...['time', 'parameters', 'batchSize', 'blockSize', 'gradAccum', 'tokensPerStep'],
      ...['parameters', 'activations', 'total', 'free'].map((name) => `memory.${name}`),
    ],
    optional: ['stepsPerEpoch', 'totalSteps', 'peakFlops'],
    texts: ['out', 'precision', 'device.device', 'device.name'],
    objects: ['configuration'],
  },
  step: {
    numbers: ['loss', 'learningRate', 'gradNorm', 'tokensPerSecond', 'tokens', 'dataWaitShare', 'stepSeconds'],
  },
  // A loss beyond all numbers is null in JSON, and true.
  eval: { numbers: ['seconds'] },
  sample: { texts: ['prompt', 'text'] },
  checkpoint: { numbers: ['bytes', 'seconds'], texts: ['path'] },
  control: { texts: ['action'] },
  warning: { texts: ['message'] },
  end: { numbers: ['tokens', 'seconds'], optional: ['loss', 'evalLoss'], texts: ['reason'] },
};

/** The event of a line, or undefined when it is none: a file may have been cut, mended by hand, or mixed up with another. */
export function parseEvent(line: string): TrainEvent | undefined {
  let value: { [name: string]: unknown } | null;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { type, step } = value ?? {};
  if (typeof type !== 'string' || !Number.isSafeInteger(step)) return undefined;
  const { numbers, optional, texts, objects }: Fields = Object.hasOwn(FIELDS, type) ? (FIELDS[type] as Fields) : {};
  const each = (names: readonly string[] = [], holds: (field: unknown) => boolean) =>
    names.every((name) => holds(fieldOf(value, name)));
  const isWhole =
    each(numbers, (field) => typeof field === 'number') &&
    each(optional, (field) => field === undefined || field === null || typeof field === 'number') &&
    each(texts, (field) => typeof field === 'string') &&
    each(objects, (field) => typeof field === 'object' && field !== null) &&
    (value?.action !== 'learningRate' || typeof value.learningRate === 'number');
  return isWhole ? (value as unknown as TrainEvent) : undefined;
}

/** @param path names with points between them. */
function fieldOf(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((part, name) => (part as { [name: string]: unknown } | null)?.[name], value);
}
