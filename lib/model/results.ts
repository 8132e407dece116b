import type { NativeCounters, NativeLoss, NativeMemoryPlan, NativeStepResult } from '../native.js';

/** The loss of one batch. */
export interface LossResult {
  /** Mean loss in nats per label; NaN when every label is -100, as in PyTorch. */
  loss: number;
  /** Sum of the losses in nats. */
  lossSum: number;
  /** Labels that are not -100. */
  tokens: number;
}

/** What an optimizer step did. */
export interface StepResult extends NativeStepResult {}

/** What a micro-step and the optimizer step after it did. */
export interface TrainStepResult extends LossResult, StepResult {
  /** Part of the call's time that the optimizer step took; 0 where it was not tried. */
  updateSeconds: number;
}

/** Device memory that training takes, in bytes, planned before it is taken. */
export interface MemoryPlan extends NativeMemoryPlan {}

/** What a model counts; checkpoints keep it so that bias correction and dropout continue. */
export interface ModelCounters extends NativeCounters {}

/** The shape of one micro-batch. */
export interface BatchShape {
  /** B */
  batchSize: number;
  /** T */
  blockSize: number;
}

/** Numbers with their shape, row-major. */
export interface FloatTensor {
  /** As many elements as the product of the shape. */
  data: Float32Array;
  /** The outermost dimension first. */
  shape: number[];
}

/** AdamW's moments of one parameter, in the parameter's layout. */
export interface OptimizerState {
  expAvg: Float32Array;
  expAvgSq: Float32Array;
}

/** What the engine counted, as a mean too. */
export function toLoss({ sum, count }: NativeLoss): LossResult {
  return { loss: sum / count, lossSum: sum, tokens: count };
}
