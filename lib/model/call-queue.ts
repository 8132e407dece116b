import { KotodamaError } from '../errors.js';

/** What the queue has to know of a call. */
export interface Call {
  /** Whether it changes weights, moments, gradients or counters [false]. */
  changes?: boolean;
  /** Ends the wait, with `ERR_ABORTED`; a call that has begun goes on. */
  signal?: AbortSignal | undefined;
}

interface Turn {
  readonly changes: boolean;
  readonly signal: AbortSignal | undefined;
  begin(): void;
  refuse(error: KotodamaError): void;
}

/**
 * Lets calls into an engine that does one thing at a time: in the order in which they came, each as soon as the one before
 * has ended, well or not. Two calls that change the model never stand in it together: whoever makes the second one cannot
 * have seen the first one end, so that an `await` is missing, or two loops train one model.
 */
export class CallQueue {
  /** The first one is running, the others wait. */
  private turns: Turn[] = [];
  /** What is done before the next one begins. */
  private between: (() => void)[] = [];
  private closed = false;
  /** One listener for all who wait with the same signal: Node warns of many. */
  private readonly onAbort = () => {
    for (const { signal, refuse } of this.turns) if (signal?.aborted) refuse(aborted(signal));
  };

  /** Whether a call would begin at once. */
  get idle(): boolean {
    return this.turns.length === 0;
  }

  /** @throws KotodamaError `ERR_DISPOSED` after {@link close} */
  requireOpen(): void {
    if (this.closed) throw disposed();
  }

  /** @throws KotodamaError `ERR_BUSY` while a call that changes the model runs or waits */
  requireUnchanged(): void {
    if (!this.turns.some(({ changes }) => changes)) return;
    throw new KotodamaError('ERR_BUSY', 'the model is being changed by another call', {
      hint: 'await each call that trains or writes before the next one, or use a second model',
    });
  }

  /**
   * Runs `work` when its turn comes, in this very tick when nothing runs; every other call waits until it has ended.
   *
   * @throws KotodamaError `ERR_BUSY` for a second call that changes the model, `ERR_ABORTED`, `ERR_DISPOSED`
   */
  async run<T>(work: () => Promise<T>, { changes = false, signal }: Call = {}): Promise<T> {
    this.requireOpen();
    if (signal?.aborted) throw aborted(signal);
    if (changes) this.requireUnchanged();
    return this.takeTurn(work, changes, signal);
  }

  /** Runs `work` now or, while calls that change nothing run, between two of them; see {@link requireUnchanged}. */
  soon(work: () => void): void {
    this.requireOpen();
    this.requireUnchanged();
    if (this.idle) work();
    else this.between.push(work);
  }

  /** Refuses all calls from now on, those that wait too, and runs `work` once the running one has ended. */
  close(work: () => Promise<void>): Promise<void> {
    // Behind the running call may wait another one of these.
    if (!this.closed) for (const { refuse } of this.turns.splice(1)) refuse(disposed());
    this.closed = true;
    this.between = [];
    return this.takeTurn(work, false);
  }

  private async takeTurn<T>(work: () => Promise<T>, changes: boolean, signal?: AbortSignal): Promise<T> {
    const turn: Turn = { changes, signal, begin() {}, refuse() {} };
    this.turns.push(turn);
    try {
      if (this.turns[0] !== turn) await this.wait(turn);
      return await work();
    } finally {
      this.leave(turn);
    }
  }

  private wait(turn: Turn): Promise<void> {
    turn.signal?.addEventListener('abort', this.onAbort);
    return new Promise((resolve, reject) => {
      turn.begin = resolve;
      turn.refuse = reject;
    });
  }

  private leave(turn: Turn): void {
    const place = this.turns.indexOf(turn);
    if (place >= 0) this.turns.splice(place, 1);
    const { signal } = turn;
    if (!this.turns.some((other) => other.signal === signal)) signal?.removeEventListener('abort', this.onAbort);
    if (place !== 0) return;
    try {
      for (const work of this.between.splice(0)) work();
    } finally {
      this.turns[0]?.begin();
    }
  }
}

function aborted(signal: AbortSignal): KotodamaError {
  return new KotodamaError('ERR_ABORTED', 'generation was aborted', { cause: signal.reason });
}

function disposed(): KotodamaError {
  return new KotodamaError('ERR_DISPOSED', 'the model was disposed', { hint: 'make a new one' });
}
