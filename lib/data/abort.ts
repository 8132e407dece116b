import { KotodamaError } from '../errors.js';

/** An AbortSignal that interrupts waiting. */
export class Abort {
  private readonly signal: AbortSignal | undefined;
  private readonly onAbort: () => void;
  private interrupt: ((error: KotodamaError) => void) | undefined;

  /** @param clean called once when the signal aborts */
  constructor(signal: AbortSignal | undefined, clean: () => void) {
    this.signal = signal;
    this.onAbort = () => {
      clean();
      this.interrupt?.(this.error());
    };
    signal?.addEventListener('abort', this.onAbort, { once: true });
  }

  /** The promise's value; rejects at once when the signal aborts. */
  orWait<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.interrupt = reject;
      promise.then(resolve, reject);
      if (this.signal?.aborted === true) reject(this.error());
    });
  }

  release(): void {
    this.signal?.removeEventListener('abort', this.onAbort);
  }

  private error(): KotodamaError {
    return new KotodamaError('ERR_ABORTED', 'Reading data was aborted', { cause: this.signal?.reason });
  }
}
