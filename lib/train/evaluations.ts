import { isDeepStrictEqual } from 'node:util';
import { checkBatch } from '../data/collate.js';
import type { Batch, Json } from '../data/types.js';
import { KotodamaError, placed } from '../errors.js';
import { addLosses } from '../evaluation/evaluate.js';
import { leaves } from '../json.js';
import type { GPT2 } from '../model/gpt2.js';
import { checkBatch as checkIds } from '../model/tokens.js';
import { GAVE_UP, unlessAborted } from '../waiting.js';
import { checkpointOf, type TrainerState } from './checkpoint.js';
import { secondsSince } from './clock.js';
import type { EvalEvent } from './events.js';
import { differences } from './identity.js';
import type { TrainerOptions } from './trainer-options.js';

/** How one evaluation is watched. */
export interface MeasureOptions {
  /** Ends it early. */
  signal: AbortSignal | undefined;
  /** Hears of the batches that are measured, of how many (null: nobody knows). */
  onProgress: (done: number, total: number | null) => void;
}

/** A run's evaluations: always of the same batches, so that they can be compared. */
export class Evaluations {
  last: TrainerState['evaluation'] = null;
  best: TrainerState['best'] = null;
  /** What is measured: losses of anything else are not compared with its own. Known once {@link prepare} has ended. */
  measured: NonNullable<TrainerState['measured']> | null = null;
  /**
   * What the checkpoint said, where it is of other data: it stays until there is an evaluation to take its place, so that a
   * start that measures nothing loses nothing.
   */
  private former: Pick<TrainerState, 'evaluation' | 'best' | 'measured'> | null = null;
  private formerBests: number[] = [];

  /** @param batches how many are measured; 0: all */
  constructor(
    private readonly model: GPT2,
    private readonly valid: TrainerOptions['valid'],
    private readonly batches: number,
  ) {}

  /**
   * Looks at the data, and at its first batch: what is wrong with it shows before the run begins. Where there will be
   * `several` evaluations it is read twice, to find data that can be read only once, and data that is shuffled. Where there
   * will be one, data that may not come a second time is left for that.
   *
   * @returns what the person should know, if anything.
   * @throws KotodamaError what reading throws, and `ERR_OPTIONS` when the batch does not fit the model.
   */
  async prepare(signal: AbortSignal | undefined, several: boolean): Promise<string | undefined> {
    const { valid } = this;
    if (valid === undefined) return undefined;
    const firsts: Batch[] = [];
    await ofValidation(async () => {
      this.measured = { data: (await valid.identity?.()) ?? null, batches: this.batches };
      const passes = several ? 2 : isMarked(this.measured.data) ? 1 : 0;
      for (let pass = 0; pass < passes && signal?.aborted !== true; pass++) {
        const batch = await unlessAborted(firstOf(valid), signal);
        if (batch === undefined) throw noBatch(pass > 0);
        if (batch === GAVE_UP) return;
        checkIds(batch, this.model.config);
        firsts.push(batch);
      }
    });
    const [first, second] = firsts;
    if (first === undefined || second === undefined || this.measuresAll || isSame(first, second)) return undefined;
    return (
      'the validation data comes in another order each time: unless evalBatches takes in all of it, evaluations measure ' +
      'different batches, and the best loss and patience mean little; do not shuffle it'
    );
  }

  /** Whether evaluations are known to leave nothing out, so that the order plays no part. */
  private get measuresAll(): boolean {
    return this.batches === 0 || this.batches >= (this.valid?.batchesPerEpoch ?? Number.POSITIVE_INFINITY);
  }

  /** The part of a checkpoint's state that tells of evaluations. */
  get state(): Pick<TrainerState, 'evaluation' | 'best' | 'measured' | 'formerBests'> {
    const { last: evaluation, best, measured, formerBests } = this;
    const now = this.former ?? { evaluation, best, measured };
    return formerBests.length === 0 ? now : { ...now, formerBests };
  }

  /** Goes on from a checkpoint's evaluations in the run's folder; gives what the person should know. */
  restore(state: TrainerState, out: string): string[] {
    const { evaluation, best, measured: before = null, formerBests = [] } = state;
    this.formerBests = formerBests;
    const same = before === null || differences(leaves(before), leaves(this.measured)).length === 0;
    if (this.valid !== undefined && (same || evaluation === null)) {
      this.last = evaluation;
      this.best = best;
      return [];
    }
    this.former = { evaluation, best, measured: before };
    if (this.valid === undefined) return [];
    const path = best === null ? undefined : checkpointOf(out, best.step);
    return [
      'validation data or --eval-batches (API: evalBatches) differ from those before: from the next evaluation on, ' +
        'earlier losses no longer count for the best loss and --patience' +
        (path === undefined ? '' : `; the earlier best model stays in ${path} until you remove it`),
    ];
  }

  /** Measures the model as it is after `step`; gives undefined when there is nothing to measure, or `signal` ended it early. */
  async measure(step: number, { signal, onProgress }: MeasureOptions): Promise<EvalEvent | undefined> {
    const { valid } = this;
    if (valid === undefined) return undefined;
    const start = performance.now();
    const limit = this.batches === 0 ? Number.POSITIVE_INFINITY : this.batches;
    const total = Number.isFinite(limit) ? limit : null;
    onProgress(0, total);
    let done = 0;
    const onBatch = () => onProgress(++done, total);
    const { loss, tokens, whole } = await ofValidation(() => addLosses(this.model, valid, { limit, signal, onBatch }));
    if (!whole) return undefined;
    const anew = this.former !== null;
    if (this.former?.best != null) this.formerBests = [...this.formerBests, this.former.best.step];
    this.former = null;
    this.last = { step, loss };
    if (this.best !== null && !(loss < this.best.loss)) this.best = { ...this.best, since: this.best.since + 1 };
    // A loss that is no number is never the best one.
    else if (Number.isFinite(loss)) this.best = { step, loss, since: 0 };
    const perplexity = Math.exp(loss);
    return { type: 'eval', step, loss, perplexity, tokens, seconds: secondsSince(start), ...(anew && { anew }) };
  }
}

async function firstOf(batches: AsyncIterable<Batch>): Promise<Batch | undefined> {
  for await (const batch of batches) {
    checkBatch(batch, 'The data');
    return batch;
  }
  return undefined;
}

/** Whether data is known by its content, as files and arrays are: that can be read again. */
function isMarked(data: Json): boolean {
  const names = [...leaves(data).keys()];
  return names.some((name) => /(^|\.)sha256$/.test(name)) && !names.some((name) => /(^|\.)unmarked\./.test(name));
}

function isSame(a: Batch, b: Batch): boolean {
  return isDeepStrictEqual([a.inputIds, a.labels], [b.inputIds, b.labels]);
}

function noBatch(again: boolean): KotodamaError {
  return new KotodamaError('ERR_DATA', again ? 'The data gave no batch a second time' : 'The data gave no batch', {
    expected: 'at least one block of text',
    received: 'an empty pass',
    hint: again ? 'it is read for each evaluation: a DataLoader begins again' : 'give more text or a smaller batch',
  });
}

/** Errors of data: whoever reads one must know which data it is. */
async function ofValidation<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof KotodamaError ? placed('validation', error) : error;
  }
}
