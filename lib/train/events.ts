import type { Json } from '../data/types.js';
import type { ControlCommand } from './control.js';

/** The run begins, or continues: everything that was derived before the first step. */
export interface StartEvent {
  type: 'start';
  /** Steps done before this start; 0 for a fresh run. */
  step: number;
  /** Seconds since 1970. */
  time: number;
  /** The checkpoint that the run continues from, or null. */
  resumedFrom: string | null;
  /** The run's folder. */
  out: string;
  device: { device: string; name: string; detail: string };
  precision: string;
  /** FLOP/s that the device does at best in this precision, where it was measured: `GPT2.peakFlops`. */
  peakFlops: number | null;
  parameters: number;
  batchSize: number;
  blockSize: number;
  gradAccum: number;
  /** batchSize * blockSize * gradAccum */
  tokensPerStep: number;
  /** Known when the blocks were counted. */
  stepsPerEpoch: number | null;
  /** Steps of the whole run; null when it ends with its last epoch and nobody counted. */
  totalSteps: number | null;
  /** Bytes. */
  memory: { parameters: number; gradients: number; moments: number; activations: number; total: number; free: number };
  /** Every training option with its resolved value, and what the caller recorded beside them; URLs without login and query. */
  configuration: { [key: string]: Json };
}

/** One optimizer step was applied. */
export interface StepEvent {
  type: 'step';
  /** Counts from 1. */
  step: number;
  /** Mean over all labels of the step, in nats. */
  loss: number;
  /** What this step was taken with. */
  learningRate: number;
  /** Global norm before clipping. */
  gradNorm: number;
  tokensPerSecond: number;
  /** Tokens read since the run began, over all its resumptions. */
  tokens: number;
  /** Epoch of the step's last block, counted from 1. */
  epoch: number;
  /** Part of the step's time that was spent waiting for data, 0 to 1. */
  dataWaitShare: number;
  stepSeconds: number;
  /** Part of `stepSeconds` that clipping and AdamW took; what neither they nor the data took is forward and backward. */
  updateSeconds: number;
}

/** The validation set was measured. */
export interface EvalEvent {
  type: 'eval';
  step: number;
  /** Mean over the labels, in nats. */
  loss: number;
  /** exp(loss) */
  perplexity: number;
  /** Labels that were counted. */
  tokens: number;
  seconds: number;
  /** The first one of other data than those before, which it is not compared with: the best loss begins anew. */
  anew?: true;
}

/** Text that the model wrote. */
export interface SampleEvent {
  type: 'sample';
  step: number;
  prompt: string;
  /** What follows the prompt. */
  text: string;
  seconds: number;
}

/** How the gradient of one parameter is spread. */
export interface GradientHistogram {
  /** Hugging Face's name of the parameter. */
  name: string;
  min: number;
  max: number;
  sum: number;
  sumOfSquares: number;
  /** Values in each of equally wide intervals from `min` to `max`. */
  counts: number[];
}

/** The gradients of a step before clipping, when histograms of them were asked for. */
export interface GradientsEvent {
  type: 'gradients';
  step: number;
  tensors: GradientHistogram[];
}

/** A person steered the run; see `TrainerControl`. */
export type ControlEvent = { type: 'control'; step: number } & ControlCommand;

/** A checkpoint is on disk, whole and synced. It was written beside the training, so later steps may have been told before. */
export interface CheckpointEvent {
  type: 'checkpoint';
  /** Steps that the checkpoint holds. */
  step: number;
  path: string;
  bytes: number;
  /** From the end of the step until it was safe. */
  seconds: number;
  /** The part of it that training waited for: a copy of the model, and a save before this one. */
  pausedSeconds: number;
}

/** Something went wrong and the run goes on: a checkpoint could not be saved, an update was skipped, a loss jumped. */
export interface WarningEvent {
  type: 'warning';
  step: number;
  /** A `KotodamaError` code. */
  code: string;
  message: string;
}

/** The run is over. */
export interface EndEvent {
  type: 'end';
  step: number;
  /** `aborted`: a signal; `maxTime`, `patience`: see the options of these names. */
  reason: 'completed' | 'aborted' | 'maxTime' | 'patience';
  /** Loss of the last step; null when no step was taken. */
  loss: number | null;
  /** The last validation loss, or null. */
  evalLoss: number | null;
  tokens: number;
  /** Of this start, without those before a resumption. */
  seconds: number;
  /** The newest checkpoint, or null. */
  checkpoint: string | null;
  /** The evaluation with the lowest loss, over all starts of the run. */
  best: { step: number; loss: number } | null;
}

/** What a training run tells: plain JSON, one line each in `metrics.jsonl`. */
export type TrainEvent =
  | StartEvent
  | StepEvent
  | EvalEvent
  | SampleEvent
  | GradientsEvent
  | CheckpointEvent
  | ControlEvent
  | WarningEvent
  | EndEvent;

/**
 * How far some work beside the steps is: counting an epoch, restoring a checkpoint, evaluating, sampling, saving. No event,
 * since nothing of it lasts.
 */
export interface TrainerProgress {
  phase: 'count' | 'restore' | 'evaluate' | 'sample' | 'save';
  /** Batches or tokens so far. */
  done: number;
  /** Of how many; null when nobody knows. */
  total: number | null;
}
