import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkBatch } from '../data/collate.js';
import type { Batch, BlockOrigin, Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { copyOf } from '../json.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { GAVE_UP, unlessAborted } from '../waiting.js';
import { secondsSince } from './clock.js';

/** A restartable stream of batches, such as a `DataLoader`: each `for await` is one epoch. */
export interface BatchSource extends AsyncIterable<Batch> {
  /** B, of every batch but perhaps an epoch's last. */
  readonly batchSize: number;
  /** T */
  readonly blockSize: number;
  /** Batches of a whole epoch, where that is known without reading it. */
  readonly batchesPerEpoch?: number | undefined;
  /** Of the tokenizer that the ids are from, where it is known. */
  readonly tokenizerFingerprint?: string | undefined;
  /** That tokenizer, where it is at hand. */
  readonly tokenizer?: TokenizerModel | undefined;
  /** Where the current pass stands, taken between two batches: it names the next one. */
  state(): Json;
  /** What `state()` would give now, made when it is asked for; where a state costs much to make. */
  snapshot?(): () => Json;
  /** Where the next pass begins, which `state()` does not say after a pass that was left. Default: as `state()`. */
  upcoming?(): Json;
  /** The next pass continues from `state`. */
  restore(state: Json): void;
  /** Says in words where a block of a batch is from. */
  locate?(origin: BlockOrigin): Promise<string>;
  /** What decides which batches come and in which order, as plain JSON; a resumed run must have the same. */
  identity?(): Promise<Json>;
}

/** Where a stream stands, as plain JSON. */
export interface StreamPosition {
  /** Counted from 1. */
  epoch: number;
  /** Blocks read in this epoch. */
  blocks: number;
  source: Json;
}

/** A batch that was not taken yet. */
interface Ahead {
  /** Where it is found. */
  position: () => StreamPosition;
  batch: Promise<Batch | undefined>;
}

/** The epochs of a source as one stream of batches that can be saved between any two of them. */
export class BatchStream {
  /** The last batch: its epoch, counted from 1, and the blocks of that epoch up to its end. */
  last = { epoch: 1, blocks: 0 };
  /** Seconds spent waiting for batches so far. */
  waitedSeconds = 0;
  /** The longest wait for one batch. */
  private longestSeconds = 0;
  /** Whether it has stopped waiting for a batch since the signal aborted. */
  gaveUp = false;
  private readonly source: BatchSource;
  private readonly epochs: number;
  private readonly signal: AbortSignal | undefined;
  private pass: AsyncIterator<Batch> | undefined;
  /** The batch after the last one, once it is being read. */
  private ahead: Ahead | undefined;
  /** Where the current pass stands. */
  private now = { epoch: 1, blocks: 0 };
  /** Until the first pass after `restore` has ended: it may be empty, when its epoch was saved at its end. */
  private restored = false;
  /** Whether the source is asked for a batch. */
  private reading = false;
  /** Where {@link rewind} has gone. */
  private rewound: (() => StreamPosition) | undefined;
  private closed = false;

  /**
   * @param epochs passes over the source; `Infinity` repeats it for ever.
   * @param signal when it aborts, a batch that does not come soon is not waited for.
   */
  constructor(source: BatchSource, epochs: number, signal?: AbortSignal) {
    this.source = source;
    this.epochs = epochs;
    this.signal = signal;
  }

  /**
   * Reads the next batch ahead: data that cannot be read shows before the run begins. False when there is none, because the
   * last epoch has ended.
   */
  async prepare(): Promise<boolean> {
    return (await unlessAborted(this.readAhead().batch, this.signal)) !== undefined;
  }

  /**
   * The batch that {@link next} will give, if it comes within a turn of the event loop; else undefined, while it is still
   * being read. What goes wrong with it is {@link next}'s to say. Positions are those of batches taken: this is none.
   */
  async peek(): Promise<Batch | undefined> {
    const start = performance.now();
    const batch = await Promise.race([this.readAhead().batch.catch(() => undefined), nextTurn(undefined)]);
    this.waitedSeconds += secondsSince(start);
    return batch;
  }

  /** The next batch; undefined after the last epoch, and when it is no longer waited for: see {@link gaveUp}. */
  async next(): Promise<Batch | undefined> {
    const start = performance.now();
    // A step that waits for slow data is finished, too, as long as data comes as it did until now.
    const grace = Math.max(1, 3 * this.longestSeconds);
    const batch = await unlessAborted(this.ahead?.batch ?? this.read(), this.signal, grace);
    if (batch === GAVE_UP) {
      this.gaveUp = true;
      return undefined;
    }
    this.ahead = undefined;
    if (batch !== undefined) this.last = { ...this.now };
    const seconds = secondsSince(start);
    this.waitedSeconds += seconds;
    this.longestSeconds = Math.max(this.longestSeconds, seconds);
    return batch;
  }

  /** Where the batch after the last one is found. */
  position(): StreamPosition {
    return this.mark()();
  }

  /** What {@link position} would give now, made when it is asked for. */
  mark(): () => StreamPosition {
    return this.rewound ?? this.ahead?.position ?? this.snapshot();
  }

  /** Stands where `mark` was made, to be saved: nothing more is read. */
  rewind(mark: () => StreamPosition): void {
    this.rewound = mark;
  }

  /** Continues from `position`; before the first `next`. */
  restore({ source, epoch, blocks }: StreamPosition): void {
    this.source.restore(source);
    this.now = { epoch, blocks };
    this.last = { epoch, blocks };
    this.restored = true;
  }

  private snapshot(): () => StreamPosition {
    const now = { ...this.now };
    const source = this.source.snapshot?.() ?? constant(copyOf(this.source.state()));
    return () => ({ ...now, source: source() });
  }

  private readAhead(): Ahead {
    if (this.ahead !== undefined) return this.ahead;
    this.ahead = { position: this.snapshot(), batch: this.read() };
    // A failure waits for whoever takes the batch.
    this.ahead.batch.catch(() => {});
    return this.ahead;
  }

  private async read(): Promise<Batch | undefined> {
    while (!this.closed && this.now.epoch <= this.epochs) {
      this.pass ??= this.source[Symbol.asyncIterator]();
      const { done, value } = await this.ask(this.pass);
      if (done !== true) {
        checkBatch(value, 'The training data');
        this.now.blocks += value.inputIds.shape[0];
        return value;
      }
      this.endPass();
    }
    return undefined;
  }

  private async ask(pass: AsyncIterator<Batch>): Promise<IteratorResult<Batch>> {
    this.reading = true;
    try {
      return await pass.next();
    } finally {
      this.reading = false;
    }
  }

  private endPass(): void {
    this.pass = undefined;
    if (this.now.blocks > 0) this.now = { epoch: this.now.epoch + 1, blocks: 0 };
    else if (!this.restored) throw noBatch();
    this.restored = false;
  }

  /** Ends the current pass and what works for it. */
  async close(): Promise<void> {
    this.closed = true;
    const ended = this.pass?.return?.();
    this.pass = undefined;
    // A source that waits for something may never return.
    if (this.reading) ended?.catch(() => {});
    else await ended;
  }
}

/**
 * Counts the batches of one epoch by reading it, from where the source stands, and puts the source back there. Gives null
 * when `signal` aborts first, and when there are as many as `enough`.
 */
export async function countBatches(
  source: BatchSource,
  signal?: AbortSignal,
  onBatch?: (count: number) => void,
  enough = Number.POSITIVE_INFINITY,
): Promise<number | null> {
  const isOver = () => signal?.aborted === true || count >= enough;
  let count = 0;
  if (isOver()) return null;
  const start = source.state();
  const stream = new BatchStream(source, 1, signal);
  try {
    while (!isOver() && (await stream.next()) !== undefined) onBatch?.(++count);
  } finally {
    await stream.close();
  }
  source.restore(start);
  return isOver() ? null : count;
}

function constant<T>(value: T): () => T {
  return () => value;
}

function noBatch(): KotodamaError {
  return new KotodamaError('ERR_DATA', 'The training data gave no batch', {
    expected: 'at least one block of text',
    received: 'an empty pass',
    hint: 'give more text, a shorter block or a smaller batch (API: or dropLast: false)',
  });
}
