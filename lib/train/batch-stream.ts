import type { Batch, BlockOrigin, Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';

/** A restartable stream of batches, such as a `DataLoader`: each `for await` is one epoch. */
export interface BatchSource extends AsyncIterable<Batch> {
  /** B, of every batch but perhaps an epoch's last. */
  readonly batchSize: number;
  /** T */
  readonly blockSize: number;
  /** Batches of a whole epoch, where that is known without reading it. */
  readonly batchesPerEpoch?: number | undefined;
  /** Where the current pass stands, taken between two batches: it names the next one. */
  state(): Json;
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

/** The epochs of a source as one stream of batches that can be saved between any two of them. */
export class BatchStream {
  /** The last batch: its epoch, counted from 1, and the blocks of that epoch up to its end. */
  last = { epoch: 1, blocks: 0 };
  /** Seconds spent waiting for batches so far. */
  waitedSeconds = 0;
  private readonly source: BatchSource;
  private readonly epochs: number;
  private pass: AsyncIterator<Batch> | undefined;
  private prepared: { position: StreamPosition; batch: Batch | undefined } | undefined;
  /** Where the current pass stands. */
  private now = { epoch: 1, blocks: 0 };
  /** Until the first pass after `restore` has ended: it may be empty, when its epoch was saved at its end. */
  private restored = false;

  /** @param epochs passes over the source; `Infinity` repeats it for ever. */
  constructor(source: BatchSource, epochs: number) {
    this.source = source;
    this.epochs = epochs;
  }

  /** Reads the next batch ahead: data that cannot be read shows before the run begins. */
  async prepare(): Promise<void> {
    const position = this.position();
    this.prepared = { position, batch: await this.read() };
  }

  /** The next batch, or undefined after the last epoch. */
  async next(): Promise<Batch | undefined> {
    const start = performance.now();
    const batch = this.prepared === undefined ? await this.read() : this.prepared.batch;
    this.prepared = undefined;
    if (batch !== undefined) this.last = { ...this.now };
    this.waitedSeconds += (performance.now() - start) / 1000;
    return batch;
  }

  /** Where the batch after the last one is found. */
  position(): StreamPosition {
    return this.prepared?.position ?? { ...this.now, source: this.source.state() };
  }

  /** Continues from `position`; before the first `next`. */
  restore({ source, epoch, blocks }: StreamPosition): void {
    this.source.restore(source);
    this.now = { epoch, blocks };
    this.last = { epoch, blocks };
    this.restored = true;
  }

  private async read(): Promise<Batch | undefined> {
    while (this.now.epoch <= this.epochs) {
      this.pass ??= this.source[Symbol.asyncIterator]();
      const { done, value } = await this.pass.next();
      if (done !== true) {
        this.now.blocks += value.inputIds.shape[0];
        return value;
      }
      this.endPass();
    }
    return undefined;
  }

  private endPass(): void {
    this.pass = undefined;
    if (this.now.blocks > 0) this.now = { epoch: this.now.epoch + 1, blocks: 0 };
    else if (!this.restored) throw noBatch();
    this.restored = false;
  }

  /** Ends the current pass and what works for it. */
  async close(): Promise<void> {
    await this.pass?.return?.();
    this.pass = undefined;
  }
}

/**
 * Counts the batches of one epoch, by reading it where nothing else tells, and puts the source back to where it was.
 *
 * @throws KotodamaError `ERR_ABORTED` when `signal` aborts first.
 */
export async function countBatches(
  source: BatchSource,
  signal?: AbortSignal,
  onBatch?: (count: number) => void,
): Promise<number> {
  const known = source.batchesPerEpoch ?? 0;
  if (known > 0) return known;
  const start = source.state();
  let count = 0;
  for await (const _ of source) {
    if (signal?.aborted === true) throw new KotodamaError('ERR_ABORTED', 'The run was aborted before its first step');
    count++;
    onBatch?.(count);
  }
  source.restore(start);
  if (count === 0) throw noBatch();
  return count;
}

function noBatch(): KotodamaError {
  return new KotodamaError('ERR_DATA', 'The training data gave no batch', {
    expected: 'at least one block of text',
    received: 'an empty pass',
    hint: 'give more text, a shorter block, a smaller batch, or dropLast: false',
  });
}
