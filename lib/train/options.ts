import { type OptionSpec, readOption } from '../option-table.js';
import type { OptionReader } from '../validate.js';
import { needsTotalSteps, SCHEDULES, type ScheduleName } from './schedule.js';

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
  /** Steps of linear warmup. Default a tenth of the run, at most 200. */
  warmupSteps: number | undefined;
  /** Default `cosine`; see `learningRateAt` for the formulas. */
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
  /** Steps between two checkpoints; 0 saves at the end alone. Default 500. */
  saveEvery: number;
  /** Checkpoints kept. Default 3. */
  keep: number;
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
    help: 'steps between checkpoints; 0: at the end alone',
  },
  keep: { kind: 'integer', range: { min: 1 }, default: 3, help: 'checkpoints kept' },
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
  const names = Object.keys(TRAINING_OPTIONS) as (keyof TrainingOptions)[];
  const kept = Object.fromEntries(names.map((name) => [name, read[name]])) as ReadTrainingOptions;
  return { ...kept, minLr, epochs: read.epochs ?? (maxSteps === undefined ? 1 : undefined) };
}

/** True when the run's number of steps must be found by counting the batches of an epoch. */
export function needsCounting({ schedule, maxSteps }: TrainingOptions): boolean {
  return maxSteps === undefined && needsTotalSteps(schedule);
}

/** The warmup of a run of `totalSteps` (null: unknown). */
export function warmupOf({ warmupSteps }: TrainingOptions, totalSteps: number | null): number {
  return warmupSteps ?? Math.min(200, totalSteps === null ? 200 : Math.floor(totalSteps / 10));
}
