import { Worker } from 'node:worker_threads';
import { type ErrorCode, KotodamaError, messageOf } from '../errors.js';
import { Tokenizer, type TokenizerSource, type UnigramEncoderParts } from '../tokenizer/index.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { type EncodedChunk, type Encoder, type EncodingRules, InlineEncoder } from './encoder.js';
import { type ChunkContent, contentOf } from './sources/read-chunk.js';
import type { TextChunk } from './sources/text-source.js';

/** Numbers of threads that make sense. */
export const MOST_WORKERS = { min: 0, max: 1024 };

/** Chunks that are read for each thread. */
const CHUNKS_AHEAD = 4;

/** Chunks of a pass that are encoded before threads are worth their start, which takes some tenths of a second. */
const CHUNKS_HERE = 2;

/** What a worker makes its encoder of: parts that are ready, which takes it a tenth of the time, or the tokenizer's files. */
export type WorkerSource = { parts: UnigramEncoderParts } | { files: TokenizerSource };

export interface WorkerRequest {
  id: number;
  chunk: ChunkContent;
  rules: EncodingRules;
}

export type WorkerAnswer = { id: number; encoded: EncodedChunk } | { id: number; code: ErrorCode; message: string };

/** Threads for a tokenizer that can be made again in them; undefined for others, and for no threads. */
export function workerPool(tokenizer: TokenizerModel | undefined, size: number): WorkerPool | undefined {
  const source = tokenizer instanceof Tokenizer ? sourceOf(tokenizer) : undefined;
  return source === undefined || size === 0 ? undefined : new WorkerPool(tokenizer as Tokenizer, source, size);
}

function sourceOf({ encoderParts: parts, source: files }: Tokenizer): WorkerSource | undefined {
  if (parts !== undefined) return { parts };
  return files === undefined ? undefined : { files };
}

interface Waiting {
  resolve: (encoded: EncodedChunk) => void;
  reject: (error: KotodamaError) => void;
}

/**
 * Encodes in worker threads. They start with the third chunk, so that a short text that is read again and again needs none;
 * end with `close`; and keep the process alive only while there is an answer to wait for. Bytes go to them and ids come back
 * by transfer: neither is copied.
 */
export class WorkerPool implements Encoder {
  readonly ahead: number;
  private readonly source: WorkerSource;
  private readonly size: number;
  private readonly here: InlineEncoder;
  private begun = 0;
  private threads: Thread[] | undefined;
  private closed = false;

  /** @param size number of threads */
  constructor(tokenizer: Tokenizer, source: WorkerSource, size: number) {
    this.here = new InlineEncoder(tokenizer);
    this.source = source;
    this.size = size;
    // One chunk at work and some that wait: ids are taken in order, and a thread whose turn is later must not idle until then.
    this.ahead = CHUNKS_AHEAD * size;
  }

  async encode(chunk: TextChunk, rules: EncodingRules): Promise<EncodedChunk> {
    if (this.closed) throw ended('was closed');
    if (this.begun++ < CHUNKS_HERE) return this.here.encode(chunk, rules);
    this.threads ??= Array.from({ length: this.size }, () => new Thread(this.source));
    return this.threads.reduce((a, b) => (b.load < a.load ? b : a)).encode(contentOf(chunk), rules);
  }

  /** Ends the threads; what they had not answered fails. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all((this.threads ?? []).map((thread) => thread.close()));
  }
}

class Thread {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private failure: KotodamaError | undefined;
  private count = 0;

  constructor(source: WorkerSource) {
    // The worker is plain JavaScript: it needs none of the loaders that the process may have been started with.
    this.worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: source, execArgv: [] });
    this.worker.on('message', (answer: WorkerAnswer) => this.settle(answer));
    this.worker.on('error', (error) => this.fail(ended(`failed (${messageOf(error)})`, error)));
    this.worker.on('exit', (code) => this.fail(ended(`ended with code ${code}`)));
    this.worker.unref();
  }

  /** Chunks that wait for an answer. */
  get load(): number {
    return this.waiting.size;
  }

  encode(chunk: ChunkContent, rules: EncodingRules): Promise<EncodedChunk> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.count++;
    this.worker.ref();
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      // Lines change hands without being copied.
      const transfer = chunk.kind === 'lines' ? [chunk.bytes.buffer] : [];
      this.worker.postMessage({ id, chunk, rules } satisfies WorkerRequest, transfer);
    });
  }

  async close(): Promise<void> {
    this.fail(ended('was closed'));
    await this.worker.terminate();
  }

  private settle(answer: WorkerAnswer): void {
    const waiting = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    // One that is being closed keeps the process alive until it has ended: somebody waits for that.
    if (this.waiting.size === 0 && this.failure === undefined) this.worker.unref();
    if ('code' in answer) waiting?.reject(new KotodamaError(answer.code, answer.message));
    else waiting?.resolve(answer.encoded);
  }

  private fail(error: KotodamaError): void {
    this.failure ??= error;
    for (const { reject } of this.waiting.values()) reject(this.failure);
    this.waiting.clear();
  }
}

function ended(how: string, cause?: unknown): KotodamaError {
  return new KotodamaError('ERR_TOKENIZER', `A tokenization worker ${how}`, { cause });
}
