import type { Batch } from '../data/types.js';
import type { GPT2 } from '../model/gpt2.js';
import type { ModelCounters, TrainStepResult } from '../model/results.js';
import type { BatchStream, StreamPosition } from './batch-stream.js';
import type { TrainingOptions } from './options.js';
import type { Spike, SpikeGuard } from './spike-guard.js';

/** A number of blocks of an epoch. */
type BlockCount = BatchStream['last'];

/** An optimizer step that changed the weights. */
export interface TakenStep {
  applied: true;
  /** Mean over all labels of the step, in nats. */
  loss: number;
  /** Before clipping. */
  gradNorm: number;
  /** Tokens read. */
  tokens: number;
  spikes: readonly Spike[];
  /** What clipping and AdamW took, and what measuring the gradients before it did. */
  updateSeconds: number;
  measureSeconds: number;
}

/** One that must not: the weights are as they were. */
export interface RefusedStep {
  applied: false;
  fault: { what: 'loss' | 'gradient norm'; value: number } | Spike;
  /** The batches that it is found in, the block before them, and their last one: blocks counted in the epoch. */
  batches: readonly Batch[];
  before: BlockCount;
  last: BlockCount;
  /** Tokens read. */
  tokens: number;
}

type Found = Pick<RefusedStep, 'batches' | 'before' | 'last'>;

/** Takes optimizer steps over the batches of a stream: accumulates, checks, clips, updates. */
export class Stepper {
  /** Between the first micro-batch of a step and its update. */
  private midStep = false;
  /** How all was before the step at hand. */
  private before: { counters: ModelCounters; position: () => StreamPosition } | undefined;
  /** Whether the device can be given a batch while it computes another. */
  private readonly readsAhead: boolean;

  constructor(
    private readonly model: GPT2,
    private readonly stream: BatchStream,
    private readonly options: TrainingOptions,
    private readonly guard: SpikeGuard,
  ) {
    this.readsAhead = model.device.device !== 'cpu';
  }

  /**
   * One step, of fewer micro-batches at the end of the data; undefined when there is none left, and when the data was waited
   * for in vain: then the step is undone. Loss and gradient are means over all labels of the step, whatever their number in
   * each micro-batch.
   *
   * @param measure looks at the gradients before the update.
   */
  async take(learningRate: number, measure?: () => Promise<void>): Promise<TakenStep | RefusedStep | undefined> {
    this.before = { counters: this.model.counters, position: this.stream.mark() };
    const result = await this.run(learningRate, measure);
    if (this.stream.gaveUp) await this.undo();
    this.before = undefined;
    return result;
  }

  /** Takes back a step that failed or cannot be finished: the run can be saved as it was before it. */
  async undo(): Promise<void> {
    await this.close();
    if (this.before === undefined) return;
    this.model.counters = this.before.counters;
    this.stream.rewind(this.before.position);
  }

  private async run(
    learningRate: number,
    measure: (() => Promise<void>) | undefined,
  ): Promise<TakenStep | RefusedStep | undefined> {
    const { gradAccum, spikes, beta1, beta2, eps, weightDecay, gradClip } = this.options;
    const stepOptions = { learningRate, betas: [beta1, beta2] as const, eps, weightDecay, maxGradNorm: gradClip };
    // Nobody looks at the gradients between the last micro-batch and the update: one call into the engine does both.
    const together = spikes !== 'skip' && measure === undefined;
    let updated: TrainStepResult | undefined;
    const batches: Batch[] = [];
    let lossSum = 0;
    let labels = 0;
    let tokens = 0;
    const before = this.stream.last;
    let broken: (Found & { value: number }) | undefined;
    for (let micro = 0; micro < gradAccum; micro++) {
      const behind = this.stream.last;
      const batch = await this.stream.next();
      if (batch === undefined) break;
      batches.push(batch);
      tokens += batch.inputIds.data.length;
      // The rest of the step is read all the same: the next one begins where it would have begun.
      if (broken !== undefined) continue;
      this.midStep = true;
      const next = this.readsAhead ? await this.stream.peek() : undefined;
      if (together && micro === gradAccum - 1) updated = await this.model.trainStep(batch, stepOptions, { next });
      const result = updated ?? (await this.model.forwardBackward(batch, { next }));
      if (!Number.isFinite(result.lossSum)) {
        broken = { batches: [batch], before: behind, last: this.stream.last, value: result.lossSum };
      }
      lossSum += result.lossSum;
      labels += result.tokens;
    }
    if (batches.length === 0 || this.stream.gaveUp) return undefined;
    if (broken !== undefined) {
      const { value, ...found } = broken;
      return this.refuse({ what: 'loss', value }, found, tokens);
    }
    const all = { batches, before, last: this.stream.last };
    const loss = lossSum / labels;
    if (labels === 0) return this.refuse({ what: 'loss', value: loss }, all, tokens);

    const high = spikes === 'off' ? undefined : this.guard.judgeLoss(loss);
    const wild = spikes === 'skip' ? await this.spikeBefore(loss, high) : undefined;
    if (wild !== undefined) return this.refuse(wild, all, tokens);
    const measuring = performance.now();
    await measure?.();
    const updating = performance.now();
    const { gradNorm, applied } = updated ?? (await this.model.step(stepOptions));
    if (!applied) return this.refuse({ what: 'gradient norm', value: gradNorm }, all, tokens);
    this.midStep = false;
    const updateSeconds = updated?.updateSeconds ?? (performance.now() - updating) / 1000;
    const steep = spikes === 'off' ? undefined : this.guard.judgeGradNorm(gradNorm);
    this.guard.add(loss, gradNorm);
    const found = [high, steep].flatMap((spike) => spike ?? []);
    const seconds = { updateSeconds, measureSeconds: (updating - measuring) / 1000 };
    return { applied: true, loss, gradNorm, tokens, spikes: found, ...seconds };
  }

  /** Leaves no half-accumulated gradient in the model. */
  async close(): Promise<void> {
    if (this.midStep) await this.model.zeroGradients();
    this.midStep = false;
  }

  /** Looks at the gradient before the update; what is no number is left to the update, which refuses it. */
  private async spikeBefore(loss: number, high: Spike | undefined): Promise<Spike | undefined> {
    const gradNorm = await this.model.gradientNorm();
    if (!Number.isFinite(gradNorm)) return undefined;
    const spike = high ?? this.guard.judgeGradNorm(gradNorm);
    if (spike !== undefined) this.guard.add(loss, gradNorm);
    return spike;
  }

  private async refuse(fault: RefusedStep['fault'], found: Found, tokens: number): Promise<RefusedStep> {
    await this.close();
    return { applied: false, fault, ...found, tokens };
  }
}
