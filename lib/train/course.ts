import type { TrainerState } from './checkpoint.js';
import { needsCounting, type TrainingOptions, warmupOf } from './options.js';
import { learningRateAt } from './schedule.js';

/** How long a run is, as far as that is known, and its learning rate along it. */
export class Course {
  /** Batches of an epoch, once known. */
  batchesPerEpoch: number | null = null;
  /** Peak learning rate that replaces the option's. */
  peakLearningRate: number | null = null;
  /** The warmup that the run was begun with. */
  private begunWith: number | undefined;

  constructor(private readonly options: TrainingOptions) {}

  /** Goes on with what a checkpoint knows. */
  restore({ step, batchesPerEpoch, peakLearningRate, warmupSteps, options }: TrainerState): void {
    this.batchesPerEpoch = batchesPerEpoch;
    // A longer run is no reason to warm up again. Before the first step nothing was decided.
    if (step > 0) this.begunWith = warmupSteps;
    // Whoever continues with another --lr means that one.
    if (options.lr === this.options.lr) this.peakLearningRate = peakLearningRate ?? null;
  }

  /** Optimizer steps of an epoch; null when it was not counted. */
  get stepsPerEpoch(): number | null {
    return this.batchesPerEpoch === null ? null : Math.ceil(this.batchesPerEpoch / this.options.gradAccum);
  }

  /** Steps of the whole run; null when it ends with its last epoch and nobody counted. */
  get totalSteps(): number | null {
    const { maxSteps, epochs, gradAccum } = this.options;
    const byEpochs =
      epochs === undefined || this.batchesPerEpoch === null
        ? Number.POSITIVE_INFINITY
        : Math.ceil((this.batchesPerEpoch * epochs) / gradAccum);
    const total = Math.min(maxSteps ?? Number.POSITIVE_INFINITY, byEpochs);
    return Number.isFinite(total) ? total : null;
  }

  get warmupSteps(): number {
    return this.decidedWarmup ?? warmupOf(this.options, this.totalSteps);
  }

  /** Whether an epoch must be counted: it was not yet, and something depends on it. */
  get needsCounting(): boolean {
    return this.batchesPerEpoch === null && needsCounting({ ...this.options, warmupSteps: this.decidedWarmup });
  }

  /** The warmup, where the length of the run has no say in it. */
  private get decidedWarmup(): number | undefined {
    return this.options.warmupSteps ?? this.begunWith;
  }

  /** The learning rate of a step, counted from 0. */
  learningRate(step: number): number {
    const { schedule: name, lr, minLr } = this.options;
    const { totalSteps, warmupSteps, peakLearningRate } = this;
    const peak = peakLearningRate ?? lr;
    return learningRateAt({ name, lr: peak, minLr: (minLr * peak) / lr, warmupSteps, totalSteps }, step);
  }

  /** What is wrong with it: a warmup that never ends. Undefined: nothing. */
  problem(): string | undefined {
    const { totalSteps, warmupSteps } = this;
    if (totalSteps === null || warmupSteps <= totalSteps) return undefined;
    const highest = this.learningRate(totalSteps - 1).toExponential(2);
    return (
      `the warmup has ${warmupSteps} steps and the whole run ${totalSteps}: its learning rate gets no higher than ` +
      `${highest}; choose a smaller --warmup-steps (API: warmupSteps)`
    );
  }
}
