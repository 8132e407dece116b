import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, KotodamaError, messageOf } from '../../errors.js';
import { type OnBadRecord, type Problem, reject } from './bad-records.js';
import type { ParquetColumns, ParquetRows } from './parquet-texts.js';
import type { PlacedText } from './text-source.js';

/** What a Parquet worker is to read. */
export interface ParquetRequest {
  path: string;
  columns: ParquetColumns;
  /** Index of the first row. */
  from: number;
}

/** What it answers, once for each message. */
export type ParquetAnswer = ParquetRows | { done: true } | { failure: string; code: ErrorCode };

/** Megabytes of JavaScript objects that a worker may hold; buffers are not among them. */
const HEAP = 3072;

/**
 * The texts in a column of a Parquet file, and the prompts in another one; offsets count rows. A thread decodes the row
 * groups: one takes long, and a hostile one ends the thread rather than the process.
 */
export class ParquetInput {
  private readonly path: string;
  private readonly columns: ParquetColumns;
  private readonly onBad: OnBadRecord;

  constructor(path: string, columns: ParquetColumns, onBad: OnBadRecord) {
    this.path = path;
    this.columns = columns;
    this.onBad = onBad;
  }

  /** The texts from a row on, some at a time. Those before a failure come first. */
  async *read(from: number): AsyncGenerator<readonly PlacedText[], void> {
    const request: ParquetRequest = { path: this.path, columns: this.columns, from };
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

  nameOf(row: number): string {
    return `${this.path}, row ${row + 1},`;
  }

  private *place({ row, texts, prompts }: ParquetRows): Generator<readonly PlacedText[], void> {
    let placed: PlacedText[] = [];
    for (const [index, text] of texts.entries()) {
      const offset = row + index;
      const prompt = prompts?.[index];
      if (typeof text === 'string' && typeof prompt !== 'object') {
        placed.push({ text, prompt, offset, end: offset + 1 });
        continue;
      }
      if (this.onBad === undefined && placed.length > 0) yield placed;
      if (this.onBad === undefined) placed = [];
      reject(this.nameOf(offset), (typeof prompt === 'object' ? prompt : text) as Problem, this.onBad);
    }
    if (placed.length > 0) yield placed;
  }

  private broken(why: string, code: ErrorCode): KotodamaError {
    const message = code === 'ERR_CHECKPOINT' ? why : `${this.path} cannot be read as Parquet (${why})`;
    return new KotodamaError(code, message);
  }
}
