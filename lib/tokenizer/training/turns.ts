import { setImmediate } from 'node:timers/promises';
import { KotodamaError } from '../../errors.js';
import type { TokenizerProgress, TrainTokenizerOptions } from './options.js';

/** Milliseconds of work after which other work of the process gets its turn. */
const TURN = 20;

/** Milliseconds between two calls of `onProgress`. */
const PROGRESS_INTERVAL = 100;

/** Lets other work of the process go on, reports progress and notices an abort, each when it is time for it. */
export class Turns {
  private readonly options: Pick<TrainTokenizerOptions, 'signal' | 'onProgress'>;
  /** Rejects at an abort. */
  private readonly aborted: Promise<never>;
  private began = performance.now();
  private reported = Number.NEGATIVE_INFINITY;

  constructor(options: Pick<TrainTokenizerOptions, 'signal' | 'onProgress'>) {
    this.options = options;
    const { signal } = options;
    this.aborted = new Promise((_, reject) => {
      signal?.addEventListener('abort', () => reject(abortError(signal)), { once: true });
    });
    this.aborted.catch(() => {});
  }

  /** Waits for something, but not beyond an abort. */
  wait<T>(work: Promise<T>): Promise<T> {
    return this.options.signal === undefined ? work : Promise.race([work, this.aborted]);
  }

  report(progress: TokenizerProgress): void {
    this.options.onProgress?.(progress);
  }

  /** @param last report in any case */
  async next(progress?: () => TokenizerProgress, last = false): Promise<void> {
    const { signal } = this.options;
    const now = performance.now();
    if (progress !== undefined && (last || now - this.reported >= PROGRESS_INTERVAL)) {
      this.reported = now;
      this.report(progress());
    }
    if (now - this.began >= TURN) {
      await setImmediate();
      this.began = performance.now();
    }
    if (signal?.aborted === true) throw abortError(signal);
  }
}

function abortError(signal: AbortSignal): KotodamaError {
  return new KotodamaError('ERR_ABORTED', 'The training of the tokenizer was aborted', { cause: signal.reason });
}
