import type {
  CheckpointEvent,
  EndEvent,
  EvalEvent,
  SampleEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
} from '../../../dist/train/events.js';

/** A run of GPT-2 small on a CPU. */
export function startEvent(step = 0, more: Partial<StartEvent> = {}): StartEvent {
  return {
    ...{
      type: 'start',
      step,
      time: 1_700_000_000,
      resumedFrom: null,
      out: 'runs/a',
      precision: 'fp32',
      peakFlops: null,
    },
    ...{ parameters: 124_439_808, batchSize: 3, blockSize: 1024, gradAccum: 2, tokensPerStep: 6144 },
    ...{ stepsPerEpoch: 50, totalSteps: 200, device: { device: 'cpu', name: 'AMD EPYC', detail: 'avx2, 2 threads' } },
    memory: { parameters: 5e8, gradients: 5e8, moments: 1e9, activations: 2e9, total: 4e9, free: 2 ** 33 },
    configuration: {
      model: { nLayer: 12, nHead: 12, nEmbd: 768, nPositions: 1024 },
      training: { lr: 6e-4, minLr: 6e-5, schedule: 'cosine', warmupSteps: 20 },
      options: { train: ['a.txt', 'b.txt'], lr: 6e-4 },
    },
    ...more,
  };
}

export function stepEvent(step: number, more: Partial<StepEvent> = {}): StepEvent {
  return {
    ...{ type: 'step', step, loss: 5, learningRate: 6e-4, gradNorm: 1.234, tokensPerSecond: 3072 },
    ...{ tokens: 6144 * step, epoch: 1, dataWaitShare: 0.25, stepSeconds: 2, updateSeconds: 0.5, ...more },
  };
}

export function evalEvent(step: number, loss: number): EvalEvent {
  return { type: 'eval', step, loss, perplexity: Math.exp(loss), tokens: 1000, seconds: 1 };
}

export function sampleEvent(step: number, text: string, prompt = ''): SampleEvent {
  return { type: 'sample', step, prompt, text, seconds: 0.5 };
}

export function checkpointEvent(step: number): CheckpointEvent {
  return { type: 'checkpoint', step, path: `step-${step}`, bytes: 2 ** 20, seconds: 2, pausedSeconds: 1 };
}

export function endEvent(step: number, more: Partial<EndEvent> = {}): EndEvent {
  return {
    ...{ type: 'end', step, reason: 'completed', loss: 3.21, evalLoss: 3.5, tokens: 6144 * step, seconds: 2 * step },
    checkpoint: `runs/a/checkpoints/step-${step}`,
    best: null,
    ...more,
  };
}

export async function* from(events: readonly TrainEvent[]): AsyncGenerator<TrainEvent> {
  yield* events;
}

export async function all<T>(events: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const event of events) found.push(event);
  return found;
}
