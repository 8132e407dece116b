import { copyOf } from '../json.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { OptionReader } from '../validate.js';
import { Abort } from './abort.js';
import { checkBatch, stackBlocks } from './collate.js';
import {
  beginPass,
  checkRestorable,
  checkSource,
  fingerprintOf,
  type Pass,
  tokenizerOf,
  upcomingOf,
} from './encoded-source.js';
import { readAhead } from './read-ahead.js';
import { readState } from './state.js';
import type { Batch, Block, BlockOrigin, BlockSource, Json } from './types.js';
import { MOST_WORKERS, type WorkerPool, workerPool } from './worker-pool.js';

/** How blocks become batches, and who prepares them. */
export interface DataLoaderOptions {
  /** B: blocks in a batch. */
  batchSize: number;
  /** Processes that train together, each with a loader of the same dataset and options. Default 1. */
  worldSize?: number | undefined;
  /** Which of them this is, from 0 to `worldSize` - 1. Default 0. */
  rank?: number | undefined;
  /** Batches made in advance, for each worker. Default 2. Without workers nothing is made in advance. */
  prefetchFactor?: number | undefined;
  /**
   * Threads that tokenize; 0 tokenizes in this thread. Default 0. They change the speed and nothing else. The first 256 KiB of
   * a pass are tokenized in this thread all the same, so that a short text starts no others.
   */
  numWorkers?: number | undefined;
  /** Makes a batch of blocks, at once. Default {@link stackBlocks}. */
  collate?: ((blocks: Block[]) => Batch) | undefined;
  /** Whether an incomplete batch at the end is dropped. Default false. */
  dropLast?: boolean | undefined;
  /** Ends the pass with `ERR_ABORTED`, also while it waits for data. */
  signal?: AbortSignal | undefined;
}

/** What belongs to its dataset. */
const ELSEWHERE = { shuffle: 'wrap the dataset: new BufferedShuffleDataset(dataset, { bufferSize })' };

interface Prefetched {
  batch: Batch;
  /** State of the source after the batch. */
  next: () => Json;
}

/**
 * Makes batches of blocks. Each `for await` is one epoch; a shuffled dataset changes its order with each.
 *
 * Order and content of the batches depend on the dataset alone, never on workers, prefetching or timing. Workers take over
 * the tokenization when the tokenizer came from `Tokenizer.fromPretrained` or is a SentencePiece unigram model. They end with
 * the pass, however it ends: at its end, by `break`, an error, or the signal. Raw bytes go to them and ids come back by
 * transfer, without a copy.
 *
 * Memory: `prefetchFactor` batches for each worker, four chunks of text (128 KiB each, or one line if that is longer) with
 * their ids for each worker, and what the dataset holds.
 *
 * When reading fails, the whole batches before the failure come first.
 *
 * One dataset can feed several loaders, one to train and one to measure, each with a place of its own. But a dataset that
 * shuffles counts every pass as an epoch, whoever reads it: give each loader its own, and resuming stays exact.
 *
 * With `worldSize` W, the next B * W blocks are one global batch, and rank r has its rows rB to (r + 1)B. What is left at
 * the end of an epoch is shared as evenly as it goes, or dropped when there is not a block for each rank, so that all ranks
 * take equally many batches. States are the same on every rank. Of token files a rank reads its own rows alone; texts have
 * to be read and tokenized by every rank, since only that tells where a block begins.
 *
 * The order of the blocks does not depend on B and W: a step of A micro-batches learns from the next A * B * W blocks. Six
 * blocks are the same six as 6 x 1, 3 x 2 or 2 x 3, on one rank or more; only around the incomplete batch at an epoch's end
 * do steps begin elsewhere.
 */
export class DataLoader implements AsyncIterable<Batch> {
  /** B */
  readonly batchSize: number;
  /** T */
  readonly blockSize: number;
  private readonly dataset: BlockSource;
  private readonly prefetchFactor: number;
  private readonly numWorkers: number;
  private readonly dropLast: boolean;
  private readonly worldSize: number;
  private readonly rank: number;
  private readonly collate: (blocks: Block[]) => Batch;
  private readonly signal: AbortSignal | undefined;
  /** State of the source before the next batch; of the pass that was begun last, until its end. */
  private position: { next: () => Json } | undefined;
  /** State of the source where the next pass begins, until then: others may read the source before. */
  private restored: Json | undefined;

  /** @throws KotodamaError `ERR_OPTIONS` that lists every problem. */
  constructor(dataset: BlockSource, options: DataLoaderOptions) {
    const reader = new OptionReader(options);
    reader.onlyKnown(
      ['batchSize', 'worldSize', 'rank', 'prefetchFactor', 'numWorkers', 'collate', 'dropLast', 'signal'],
      ELSEWHERE,
    );
    this.batchSize = reader.integer('batchSize', { min: 1 });
    this.prefetchFactor = reader.integer('prefetchFactor', { min: 1 }, 2);
    this.numWorkers = reader.integer('numWorkers', MOST_WORKERS, 0);
    this.dropLast = reader.boolean('dropLast', false);
    this.worldSize = reader.integer('worldSize', { min: 1 }, 1);
    this.rank = reader.integer('rank', { min: 0, max: this.worldSize - 1 || 0 }, 0);
    const { collate = stackBlocks } = options ?? {};
    if (typeof collate !== 'function') reader.problem('collate', 'a function', collate);
    this.signal = reader.signal('signal');
    checkSource(reader, dataset);
    reader.finish('These options cannot make a DataLoader');
    this.dataset = dataset;
    this.blockSize = dataset.blockSize;
    this.collate = collate;
  }

  /** A pass over the dataset. Leaving the loop early, an error or the signal end its workers. */
  [Symbol.asyncIterator](): AsyncGenerator<Batch, void> {
    if (this.restored !== undefined) this.dataset.restore(this.restored);
    this.restored = undefined;
    const pool = workerPool(tokenizerOf(this.dataset), this.numWorkers);
    const from = this.rank * this.batchSize;
    const rows = { from, to: from + this.batchSize, of: this.batchSize * this.worldSize };
    const pass = beginPass(this.dataset, pool, rows);
    const position = { next: pass.snapshot() };
    this.position = position;
    const batches = this.run(pass, position, pool);
    const end = batches.return.bind(batches);
    // It comes after the batch that is being waited for, which may never come.
    batches.return = (value) => {
      pass.close?.();
      return end(value);
    };
    return batches;
  }

  /** Batches of a whole epoch, where that is known without reading it. */
  get batchesPerEpoch(): number | undefined {
    const { blockCount } = this.dataset;
    if (blockCount === undefined) return undefined;
    const rows = this.batchSize * this.worldSize;
    return Math.floor(blockCount / rows) + (this.isKept(blockCount % rows) ? 1 : 0);
  }

  /** `Tokenizer.fingerprint` of the tokenizer that the ids are from, where it is known. */
  get tokenizerFingerprint(): string | undefined {
    return fingerprintOf(this.dataset);
  }

  /** The tokenizer that makes the ids of texts. */
  get tokenizer(): TokenizerModel | undefined {
    return tokenizerOf(this.dataset);
  }

  /** Where the current pass stands: names the batch after the last one that was taken, however many are prefetched. */
  state(): Json {
    return this.snapshot()();
  }

  /** What `state()` would give now, made when it is asked for. */
  snapshot(): () => Json {
    const source = this.position?.next ?? this.upcomingPlace();
    return () => ({ kind: 'loader', source: source() });
  }

  /** Where the next pass begins; after one that was left, this is not where that one stands. */
  upcoming(): Json {
    return { kind: 'loader', source: this.upcomingPlace()() };
  }

  /** The next pass continues from `state`. Throws `ERR_CHECKPOINT` when the state is not from a pipeline like this one. */
  restore(state: Json): void {
    const { source = null } = readState(state, 'loader');
    checkRestorable(this.dataset, source);
    this.restored = copyOf(source);
    this.position = undefined;
  }

  /** Says in words where a block is from. */
  async locate(origin: BlockOrigin): Promise<string> {
    return (await this.dataset.locate?.(origin)) ?? 'an unknown place';
  }

  /** What decides which batches come and in which order, as plain JSON; workers and prefetching do not. */
  async identity(): Promise<Json> {
    const { batchSize, worldSize, dropLast } = this;
    return { batchSize, worldSize, dropLast, of: (await this.dataset.identity?.()) ?? null };
  }

  private upcomingPlace(): () => Json {
    const { restored } = this;
    return restored === undefined ? upcomingOf(this.dataset) : () => restored;
  }

  private async *run(
    pass: Pass<AsyncIterable<Block>>,
    position: { next: () => Json },
    pool: WorkerPool | undefined,
  ): AsyncGenerator<Batch, void> {
    const abort = new Abort(this.signal, () => void pool?.close());
    const ahead = Math.max(1, this.numWorkers * this.prefetchFactor);
    const batches = readAhead(this.batches(pass), ahead, (batch) => batch);
    try {
      for (;;) {
        const next = await abort.orWait(batches.next());
        if (next.done === true) break;
        position.next = next.value.next;
        yield next.value.batch;
      }
      if (this.position === position) this.position = undefined;
    } finally {
      abort.release();
      pass.close?.();
      // Not awaited: a source that waits for something may never return.
      batches.return().catch(() => {});
      await pool?.close();
    }
  }

  private async *batches(pass: Pass<AsyncIterable<Block>>): AsyncGenerator<Prefetched, void> {
    let gathered: Block[] = [];
    // Taken with each block: once the source has ended, its state is that of the next epoch.
    let next = pass.snapshot();
    for await (const block of pass.blocks) {
      gathered.push(block);
      next = pass.snapshot();
      if (gathered.length < this.batchSize * this.worldSize) continue;
      yield { batch: this.batchOf(gathered), next };
      gathered = [];
    }
    if (this.isKept(gathered.length)) yield { batch: this.batchOf(gathered), next };
  }

  private batchOf(blocks: readonly Block[]): Batch {
    const share = this.shareOf(blocks);
    const origins = share.flatMap(({ origin }) => (origin === undefined ? [] : [origin]));
    const batch = this.collate(share);
    checkBatch(batch, 'collate');
    return origins.length === share.length ? { ...batch, origins } : batch;
  }

  /** Whether so many blocks at the end of an epoch make a batch. */
  private isKept(rest: number): boolean {
    return rest >= this.worldSize && !this.dropLast;
  }

  /** This rank's rows of a global batch. */
  private shareOf(blocks: readonly Block[]): Block[] {
    const begin = (rank: number) => Math.floor((rank * blocks.length) / this.worldSize);
    return blocks.slice(begin(this.rank), begin(this.rank + 1));
  }
}
