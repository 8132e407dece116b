import { type OptionSpec, readOption } from '../option-table.js';
import type { OptionReader } from '../validate.js';
import { needsTotalSteps, SCHEDULES, type ScheduleName } from './schedule.js';
import { SPIKE_POLICIES, type SpikePolicy } from './spike-guard.js';

/** How long, how fast and how carefully a model is trained. */
export interface TrainingOptions {
  /** Micro-batches per optimizer step; the step equals one of a batch that many times larger. Default 1. */
  gradAccum: number;
  /** The run ends after this many steps. */
  maxSteps: number | undefined;
  /** The run ends after this many passes over the data. Default 1, unless `maxSteps` is given. */
  epochs: number | undefined;
  /** Peak learning rate. Default 6e-4. */
  lr: number;
  /** Where a decaying schedule ends. Default `lr / 10`. */
  minLr: number;
  /**
   * Steps of linear warmup. Default a tenth of the run, at most 200: where an epoch may end the run, its batches are counted
   * first, which data that can be read only once does not allow.
   */
  warmupSteps: number | undefined;
  /** Default `cosine`; `docs/numbers.md` has the formulas. */
  schedule: ScheduleName;
  /** AdamW's decay of the 2-D weights. Default 0.1. */
  weightDecay: number;
  /** Default 0.9. */
  beta1: number;
  /** Default 0.95. */
  beta2: number;
  /** Default 1e-8. */
  eps: number;
  /** Largest global norm of the gradient; 0 never clips. Default 1. */
  gradClip: number;
  /** Steps between two evaluations; 0 evaluates at the end alone. Default 100. */
  evalEvery: number;
  /** Batches per evaluation, always the first ones; 0 takes the whole set. Default 50. */
  evalBatches: number;
  /** Steps between two text samples; 0: none. Default 0. */
  sampleEvery: number;
  /** What a sample begins with. Default: the tokenizer's begin-of-text. */
  samplePrompt: string | undefined;
  /** Tokens per sample. Default 64. */
  sampleTokens: number;
  /** Steps between two histograms of the gradients; 0: none. Default 0. */
  histogramEvery: number;
  /** Steps between two checkpoints, beside those of each new lowest evaluation loss; 0: only these and the end. Default 500. */
  saveEvery: number;
  /** Checkpoints kept, beside that of the lowest evaluation loss. Default 3. */
  keep: number;
  /**
   * What is done when a loss or a gradient is no number; the update is never applied. `stop` ends the run with the blocks
   * and their places named; `skip` goes on with the next blocks. Default `stop`.
   */
  nonFinite: 'stop' | 'skip';
  /** What is done when a loss or a gradient norm is far above the last ones. Default `log`. */
  spikes: SpikePolicy;
  /** Standard deviations above the mean that make a spike. Default 6. */
  spikeSigma: number;
  /** Steps that mean and deviation are taken over. Default 128. */
  spikeWindow: number;
  /** Updates skipped in a row before the run stops. Default 10. */
  maxSkips: number;
  /** Seconds after which no step is begun: the run is saved and ends. Of each start. Default: none. */
  maxTime: number | undefined;
  /** The run ends after this many evaluations in a row without a new lowest loss, which need `valid`; 0 never. Default 0. */
  patience: number;
  /** Tensors that keep their weights, as `model.freeze` takes them. Default: none. */
  freeze: readonly string[] | undefined;
}

/** The one table of training options. */
export const TRAINING_OPTIONS = {
  gradAccum: { kind: 'integer', range: { min: 1 }, default: 1, fixed: true, help: 'micro-batches per optimizer step' },
  maxSteps: { kind: 'integer', range: { min: 1 }, help: 'end after this many steps' },
  epochs: {
    kind: 'integer',
    range: { min: 1 },
    derived: '1 without --max-steps',
    help: 'end after this many passes over the data',
  },
  lr: { kind: 'number', range: { above: 0 }, default: 6e-4, help: 'peak learning rate' },
  minLr: { kind: 'number', range: { min: 0 }, derived: 'lr / 10', help: 'where a decaying schedule ends' },
  warmupSteps: {
    kind: 'integer',
    range: { min: 0 },
    derived: 'a tenth of the run, at most 200',
    help: 'steps until the peak is reached',
  },
  schedule: { kind: 'choice', choices: SCHEDULES, default: 'cosine', help: 'shape of the learning rate' },
  weightDecay: { kind: 'number', range: { min: 0 }, default: 0.1, help: 'AdamW decay of the 2-D weights' },
  beta1: { kind: 'number', range: { min: 0, below: 1 }, default: 0.9, help: 'AdamW, first moment' },
  beta2: { kind: 'number', range: { min: 0, below: 1 }, default: 0.95, help: 'AdamW, second moment' },
  eps: { kind: 'number', range: { above: 0 }, default: 1e-8, help: 'AdamW, added to the denominator' },
  gradClip: { kind: 'number', range: { min: 0 }, default: 1, help: 'largest global gradient norm; 0 never clips' },
  evalEvery: {
    kind: 'integer',
    range: { min: 0 },
    default: 100,
    help: 'steps between evaluations; 0: at the end alone',
  },
  evalBatches: { kind: 'integer', range: { min: 0 }, default: 50, help: 'batches per evaluation; 0: the whole set' },
  sampleEvery: { kind: 'integer', range: { min: 0 }, default: 0, help: 'steps between text samples; 0: none' },
  samplePrompt: { kind: 'string', placeholder: 'TEXT', derived: 'begin of text', help: 'what a sample begins with' },
  sampleTokens: { kind: 'integer', range: { min: 1 }, default: 64, help: 'tokens per sample' },
  histogramEvery: {
    kind: 'integer',
    range: { min: 0 },
    default: 0,
    help: 'steps between histograms of the gradients; 0: none',
  },
  saveEvery: {
    kind: 'integer',
    range: { min: 0 },
    default: 500,
    help: 'steps between checkpoints, beside the best ones; 0: these and the end alone',
  },
  keep: { kind: 'integer', range: { min: 1 }, default: 3, help: 'checkpoints kept, beside the best one' },
  nonFinite: {
    kind: 'choice',
    choices: ['stop', 'skip'],
    default: 'stop',
    help: 'at a loss or gradient that is no number: end the run, or leave it out',
  },
  spikes: {
    kind: 'choice',
    choices: SPIKE_POLICIES,
    default: 'log',
    help: 'at a loss or gradient far above the last ones: warn, or leave it out',
  },
  spikeSigma: { kind: 'number', range: { above: 0 }, default: 6, help: 'standard deviations that make a spike' },
  spikeWindow: { kind: 'integer', range: { min: 2 }, default: 128, help: 'steps that they are taken over' },
  maxSkips: { kind: 'integer', range: { min: 1 }, default: 10, help: 'updates left out in a row before the run stops' },
  maxTime: {
    kind: 'duration',
    placeholder: 'TIME',
    derived: 'none',
    help: 'save and end after this long: 8h, 1h30m',
  },
  patience: {
    kind: 'integer',
    range: { min: 0 },
    default: 0,
    help: 'end after so many evaluations without a better one; 0: never',
  },
  freeze: {
    kind: 'strings',
    placeholder: 'PATTERN...',
    fixed: true,
    help: "tensors that keep their weights, such as wte, 'h.[0-5]' or '*.bias'",
  },
} as const satisfies Record<keyof TrainingOptions, OptionSpec>;

/** Reads the training options; problems are noted in `reader`, absent ones become their defaults. */
export function readTrainingOptions(reader: OptionReader): TrainingOptions {
  const read = Object.entries<OptionSpec>(TRAINING_OPTIONS).map(([name, spec]) => [
    name,
    readOption(reader, name, spec),
  ]);
  return deriveTrainingOptions(reader, Object.fromEntries(read) as ReadTrainingOptions);
}

/** The training options one by one, before those that depend on others are found. */
export type ReadTrainingOptions = Omit<TrainingOptions, 'minLr'> & { minLr: number | undefined };

/** Fills in the options that depend on others, and checks those that must fit together. */
export function deriveTrainingOptions(reader: OptionReader, read: ReadTrainingOptions): TrainingOptions {
  const { lr, maxSteps, warmupSteps = 0 } = read;
  const minLr = read.minLr ?? lr / 10;
  if (minLr > lr) reader.problem('minLr', `at most the peak learning rate ${lr}`, minLr);
  if (maxSteps !== undefined && warmupSteps > maxSteps) {
    reader.problem('warmupSteps', `at most the ${maxSteps} steps of the run`, warmupSteps);
  }
  const missing = missingForPatience(reader.has('valid'), read.evalEvery);
  if (read.patience > 0 && missing !== undefined) reader.problem('patience', `0 ${missing}`, read.patience);
  const names = Object.keys(TRAINING_OPTIONS) as (keyof TrainingOptions)[];
  const kept = Object.fromEntries(names.map((name) => [name, read[name]])) as ReadTrainingOptions;
  return { ...kept, minLr, epochs: read.epochs ?? (maxSteps === undefined ? 1 : undefined) };
}

/** Why there is nothing that patience could end a run by; undefined where there is. */
export function missingForPatience(hasValid: boolean, evalEvery: unknown): string | undefined {
  if (!hasValid) return 'without a validation set (--valid, API: valid)';
  return evalEvery === 0 ? 'with --eval-every 0 (API: evalEvery)' : undefined;
}

/**
 * True when the run's number of steps must be found by counting the batches of an epoch: an epoch may be what ends it, and
 * the schedule or the warmup depends on where that is.
 */
export function needsCounting({ schedule, maxSteps, epochs, warmupSteps }: TrainingOptions): boolean {
  const depends = needsTotalSteps(schedule) || warmupSteps === undefined;
  return depends && (maxSteps === undefined || epochs !== undefined);
}

/** The warmup of a run of `totalSteps` (null: unknown). */
export function warmupOf({ warmupSteps }: TrainingOptions, totalSteps: number | null): number {
  return warmupSteps ?? Math.min(200, totalSteps === null ? 200 : Math.floor(totalSteps / 10));
}
