import { Worker } from 'node:worker_threads';
import { type ErrorCode, KotodamaError, messageOf } from '../errors.js';
import type { TokenizerSource } from '../tokenizer/index.js';
import type { EncodedTexts, Encoder } from './encoder.js';

export interface WorkerRequest {
  id: number;
  texts: string[];
}

export type WorkerAnswer = ({ id: number } & EncodedTexts) | { id: number; code: ErrorCode; message: string };

interface Waiting {
  resolve: (encoded: EncodedTexts) => void;
  reject: (error: KotodamaError) => void;
}

/**
 * Encodes in worker threads. They start with the first texts, end with `close`, and keep the process alive only while
 * there is an answer to wait for.
 */
export class WorkerPool implements Encoder {
  readonly ahead: number;
  private readonly source: TokenizerSource;
  private readonly size: number;
  private threads: Thread[] | undefined;
  private closed = false;

  /** @param size number of threads */
  constructor(source: TokenizerSource, size: number) {
    this.source = source;
    this.size = size;
    // One chunk at work and one that waits, so that no thread idles between two.
    this.ahead = 2 * size;
  }

  async encode(texts: string[]): Promise<EncodedTexts> {
    if (this.closed) throw ended('was closed');
    this.threads ??= Array.from({ length: this.size }, () => new Thread(this.source));
    return this.threads.reduce((a, b) => (b.load < a.load ? b : a)).encode(texts);
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

  constructor(source: TokenizerSource) {
    // The worker is plain JavaScript: it needs none of the loaders that the process may have been started with.
    this.worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: source, execArgv: [] });
    this.worker.on('message', (answer: WorkerAnswer) => this.settle(answer));
    this.worker.on('error', (error) => this.fail(ended(`failed (${messageOf(error)})`, error)));
    this.worker.on('exit', (code) => this.fail(ended(`ended with code ${code}`)));
    this.worker.unref();
  }

  /** Texts that wait for an answer. */
  get load(): number {
    return this.waiting.size;
  }

  encode(texts: string[]): Promise<EncodedTexts> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.count++;
    this.worker.ref();
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, texts } satisfies WorkerRequest);
    });
  }

  async close(): Promise<void> {
    this.fail(ended('was closed'));
    await this.worker.terminate();
  }

  private settle(answer: WorkerAnswer): void {
    const waiting = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    if (this.waiting.size === 0) this.worker.unref();
    if ('code' in answer) waiting?.reject(new KotodamaError(answer.code, answer.message));
    else waiting?.resolve({ ids: answer.ids, lengths: answer.lengths });
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
