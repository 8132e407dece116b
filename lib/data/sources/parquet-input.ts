import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, KotodamaError, messageOf } from '../../errors.js';
import { type OnBadRecord, reject } from './bad-records.js';
import type { ParquetRows } from './parquet-texts.js';
import type { PlacedText } from './text-source.js';

/** What a Parquet worker is to read. */
export interface ParquetRequest {
  path: string;
  column: string;
  /** Index of the first row. */
  from: number;
}

/** What it answers, once for each message. */
export type ParquetAnswer = ParquetRows | { done: true } | { failure: string; code: ErrorCode };

/** Megabytes of JavaScript objects that a worker may hold; buffers are not among them. */
const HEAP = 3072;

/**
 * The texts in a column of a Parquet file; offsets count rows. A thread decodes the row groups: one takes long, and a
 * hostile one ends the thread rather than the process.
 */
export class ParquetInput {
  private readonly path: string;
  private readonly column: string;
  private readonly onBad: OnBadRecord;

  constructor(path: string, column: string, onBad: OnBadRecord) {
    this.path = path;
    this.column = column;
    this.onBad = onBad;
  }

  /** The texts from a row on, some at a time. Those before a failure come first. */
  async *read(from: number): AsyncGenerator<readonly PlacedText[], void> {
    const request: ParquetRequest = { path: this.path, column: this.column, from };
    const worker = new Worker(new URL('./parquet-worker.js', import.meta.url), {
      workerData: request,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: HEAP },
    });
    try {
      for (;;) {
        const answer = await this.ask(worker);
        if ('done' in answer) return;
        if ('failure' in answer) throw this.broken(answer.failure, answer.code);
        yield* this.place(answer);
      }
    } finally {
      await worker.terminate();
    }
  }

  async locate(offset: number): Promise<{ unit: string; number: number }> {
    return { unit: 'row', number: offset + 1 };
  }

  private async ask(worker: Worker): Promise<ParquetAnswer> {
    worker.postMessage(null);
    try {
      const [answer] = (await once(worker, 'message')) as [ParquetAnswer];
      return answer;
    } catch (cause) {
      throw this.broken(messageOf(cause), 'ERR_DATA');
    }
  }

  private *place({ row, texts }: ParquetRows): Generator<readonly PlacedText[], void> {
    let placed: PlacedText[] = [];
    for (const [index, text] of texts.entries()) {
      const offset = row + index;
      if (typeof text === 'string') {
        placed.push({ text, offset, end: offset + 1 });
        continue;
      }
      if (this.onBad === undefined && placed.length > 0) yield placed;
      if (this.onBad === undefined) placed = [];
      reject(`${this.path}, row ${offset + 1},`, text, this.onBad);
    }
    if (placed.length > 0) yield placed;
  }

  private broken(why: string, code: ErrorCode): KotodamaError {
    const message = code === 'ERR_CHECKPOINT' ? why : `${this.path} cannot be read as Parquet (${why})`;
    return new KotodamaError(code, message);
  }
}
