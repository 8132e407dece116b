import type { Batch, Json } from '../../dist/data/types.js';
import type { ModelOptions } from '../../dist/model/build.js';
import { GPT2 } from '../../dist/model/gpt2.js';
import type { BatchSource } from '../../dist/train/batch-stream.js';
import type { TrainerTokenizer } from '../../dist/train/trainer.js';

export const VOCABULARY = 32;

/** A model that takes a millisecond per step. */
export function tinyModel(options: ModelOptions & { dropout?: number; vocabSize?: number } = {}): Promise<GPT2> {
  const { seed = 1, dropout = 0, vocabSize = VOCABULARY, ...engine } = options;
  const dropouts = { embdPdrop: dropout, attnPdrop: dropout, residPdrop: dropout };
  return GPT2.create(
    { ...{ vocabSize, nPositions: 8, nEmbd: 16, nLayer: 2, nHead: 2 }, ...dropouts },
    { device: 'cpu', threads: 1, seed, ...engine },
  );
}

/** One id per letter. */
export function letters(vocabSize = VOCABULARY): TrainerTokenizer {
  return {
    ...{ vocabSize, bosTokenId: 0, eosTokenId: undefined, padTokenId: undefined, unkTokenId: 0 },
    encode: (text) => Array.from(text, (letter) => (letter.codePointAt(0) as number) % vocabSize),
    decode: (ids) => Array.from(ids, (id) => String.fromCharCode(96 + id)).join(''),
    fingerprint: `letters ${vocabSize}`,
  };
}

/** Batches in memory: (B, T) = (2, 8), ids that a model can learn; other ones each epoch, as after a shuffle. */
export class TinyLoader implements BatchSource {
  readonly batchSize: number;
  readonly blockSize = 8;
  /** Passes begun and ended: workers of a real loader live in between. */
  open = 0;
  private epoch = 1;
  private next = 0;
  /** The next pass continues where `epoch` and `next` stand. */
  private fresh = true;

  constructor(
    private readonly batches: number,
    private readonly options: { batchSize?: number; sameEachEpoch?: boolean } = {},
  ) {
    this.batchSize = options.batchSize ?? 2;
  }

  state(): Json {
    return { epoch: this.epoch, next: this.next };
  }

  restore(state: Json): void {
    Object.assign(this, state);
    this.fresh = true;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
    if (!this.fresh) {
      this.epoch++;
      this.next = 0;
    }
    this.fresh = false;
    this.open++;
    try {
      while (this.next < this.batches)
        yield this.batch((this.options.sameEachEpoch ? 0 : this.epoch * 7) + this.next++);
    } finally {
      this.open--;
    }
  }

  private batch(number: number): Batch {
    const shape: [number, number] = [this.batchSize, this.blockSize];
    const ids = Int32Array.from(
      { length: this.batchSize * this.blockSize + 1 },
      (_, index) => (number + index * 3) % 29,
    );
    // Rows with different numbers of labels: a mean over means would differ from the mean over all.
    const labels = ids.slice(1).map((id, index) => (index < number % 5 ? -100 : id));
    return { inputIds: { data: ids.slice(0, -1), shape }, labels: { data: labels, shape } };
  }
}
